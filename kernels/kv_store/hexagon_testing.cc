// kv_store's integer kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include <cstring>

#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: head_dim, kv_heads, capacity, rows, position, kv_stride, ints before k's and v's first, bytes before both caches (0 or 64),
// first head, end of the heads. Inputs: k, v, what the caches hold before. Outputs: the caches.
void kv_store(KernelCall& call, void (*kernel)(const KvStoreArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(10, 4, 2)) return;
  const int32_t* s = call.scalars;
  const int32_t head_dim = s[0], kv_heads = s[1], capacity = s[2], rows = s[3], position = s[4], stride = s[5], before = s[6],
                cache_before = s[7];
  constexpr int32_t kMost = 1 << 14;
  for (int32_t i = 0; i < 4; ++i) {
    if (!call.check(0 < s[i] && s[i] <= kMost, "head_dim, kv_heads, capacity and rows: 1 to 16384")) return;
  }
  const bool fit = capacity % kKvKeyBlock == 0 && 0 <= position && position <= capacity - rows && kv_heads * head_dim <= stride &&
                   stride <= 1 << 16 && 0 <= before && before < 32 && (cache_before == 0 || cache_before == 64) && 0 <= s[8] &&
                   s[8] <= s[9] && s[9] <= kv_heads;
  if (!call.check(fit, "no such shape")) return;
  const int64_t cache = cache_before + kv_side_bytes(kv_heads, head_dim, capacity, 8), x = 4 * (before + int64_t{rows} * stride);
  const bool sized = call.inputs[0].bytes == x && call.inputs[1].bytes == x && call.inputs[2].bytes == cache &&
                     call.inputs[3].bytes == cache && call.outputs[0].bytes == cache && call.outputs[1].bytes == cache;
  if (!call.check(sized, "a buffer of another size than the scalars make it")) return;
  for (int32_t i = 0; i < 2; ++i) std::memcpy(call.outputs[i].data, call.inputs[2 + i].data, cache);
  const KvStoreArgs args = {
      .k = reinterpret_cast<const float*>(call.inputs[0].data) + before,
      .v = reinterpret_cast<const float*>(call.inputs[1].data) + before,
      .kv_stride = stride,
      .rows = rows,
      .position = position,
      .cache = {call.outputs[0].data + cache_before, call.outputs[1].data + cache_before, kv_heads, head_dim, capacity, 8}};
  call.measure([&] { kernel(args, s[8], s[9]); });
}

}  // namespace

void kv_store_fixed(KernelCall& call) { kv_store(call, kv_store_fixed); }
void kv_store_hvx(KernelCall& call) { kv_store(call, kv_store_hvx); }

}  // namespace hvl

// attention's integer kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include <cstring>

#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: head_dim, kv_heads, capacity, heads, rows, position, key_begin, key_end, causal, first, last, the bits of scale, q_stride,
// out_stride, ints before q's first, ints before out's first, bytes before both caches (0 or 64), first unit, end of the units. Inputs: q,
// K, V, what out and state hold before. Outputs: out, state, scratch.
void attention(KernelCall& call, void (*kernel)(const AttentionArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(19, 5, 3)) return;
  const int32_t* s = call.scalars;
  const int32_t head_dim = s[0], kv_heads = s[1], capacity = s[2], heads = s[3], rows = s[4], q_before = s[14], out_before = s[15],
                before = s[16];
  constexpr int32_t kMost = 1 << 14;
  for (int32_t i = 0; i < 5; ++i) {
    if (!call.check(0 < s[i] && s[i] <= kMost, "head_dim, kv_heads, capacity, heads and rows: 1 to 16384")) return;
  }
  if (!call.check(head_dim <= kAttentionMaxHeadDim && heads % kv_heads == 0 && capacity % kKvKeyBlock == 0, "no such shape")) return;
  const int32_t position = s[5], key_begin = s[6], key_end = s[7], q_stride = s[12], out_stride = s[13];
  const bool keys_fit = 0 <= position && position <= kMost && 0 <= key_begin && key_begin % kAttentionChunk == 0 && key_begin < key_end &&
                        key_end - key_begin <= capacity;
  if (!call.check(keys_fit, "keys: from a multiple of 256 on, no more than the capacity")) return;
  const bool offsets_fit = 0 <= q_before && q_before < 32 && 0 <= out_before && out_before < 32 && (before == 0 || before == 64);
  if (!call.check(offsets_fit && heads * head_dim <= q_stride && q_stride <= kMost && heads * head_dim <= out_stride && out_stride <= kMost,
                  "offsets and strides")) {
    return;
  }
  const int64_t cache = before + kv_side_bytes(kv_heads, head_dim, capacity, 8);
  const bool fits = call.inputs[0].bytes == 4 * (q_before + int64_t{rows} * q_stride) && call.inputs[1].bytes == cache &&
                    call.inputs[2].bytes == cache && call.inputs[3].bytes == 4 * (out_before + int64_t{rows} * out_stride) &&
                    call.inputs[4].bytes == int64_t{8} * rows * heads && call.outputs[0].bytes == call.inputs[3].bytes &&
                    call.outputs[1].bytes == call.inputs[4].bytes && call.outputs[2].bytes == attention_scratch_bytes(head_dim);
  if (!call.check(fits, "a buffer of another size than the scalars make it")) return;
  if (!call.check(0 <= s[17] && s[17] <= s[18] && s[18] <= attention_units(rows, heads), "units")) return;
  for (int32_t i = 0; i < 2; ++i) std::memcpy(call.outputs[i].data, call.inputs[3 + i].data, call.outputs[i].bytes);
  AttentionArgs args = {};
  args.q = reinterpret_cast<const float*>(call.inputs[0].data) + q_before;
  args.q_stride = q_stride;
  args.out = reinterpret_cast<float*>(call.outputs[0].data) + out_before;
  args.out_stride = out_stride;
  args.cache = {call.inputs[1].data + before, call.inputs[2].data + before, kv_heads, head_dim, capacity, 8};
  args.activation_bits = 16;
  args.rows = rows;
  args.heads = heads;
  args.position = position;
  args.key_begin = key_begin;
  args.key_end = key_end;
  args.causal = s[8] != 0;
  args.first = s[9] != 0;
  args.last = s[10] != 0;
  std::memcpy(&args.scale, &s[11], sizeof args.scale);
  args.state = reinterpret_cast<float*>(call.outputs[1].data);
  args.state_stride = 2 * heads;
  args.scratch = call.outputs[2].data;
  call.measure([&] { kernel(args, s[17], s[18]); });
}

}  // namespace

void attention_fixed(KernelCall& call) { attention(call, attention_fixed); }
void attention_hvx(KernelCall& call) { attention(call, attention_hvx); }

}  // namespace hvl

// rope's integer kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include <cstring>

#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: head_dim, heads, rows, position, x_stride, ints before x's first, the bits of eps, ints before each of weight, cos and sin,
// first row, end of the rows. Inputs: x, weight (or nothing), cos, sin. Output: x.
void rope(KernelCall& call, void (*kernel)(const RopeArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(10, 4, 1)) return;
  const int32_t* s = call.scalars;
  const int32_t head_dim = s[0], heads = s[1], rows = s[2], position = s[3], stride = s[4], before = s[5], tables_before = s[7];
  constexpr int32_t kMost = 1 << 14;
  for (int32_t i = 0; i < 3; ++i) {
    if (!call.check(0 < s[i] && s[i] <= kMost, "head_dim, heads and rows: 1 to 16384")) return;
  }
  const bool fit = head_dim <= 256 && head_dim % 2 == 0 && 0 <= position && position <= kMost && heads * head_dim <= stride &&
                   stride <= 1 << 20 && 0 <= before && before < 32 && 0 <= tables_before && tables_before < 32 && 0 <= s[8] &&
                   s[8] <= s[9] && s[9] <= rows;
  if (!call.check(fit, "no such shape")) return;
  const int64_t x = 4 * (before + int64_t{rows} * stride), table = 4 * (tables_before + int64_t{position + rows} * (head_dim / 2));
  const bool sized = call.inputs[0].bytes == x &&
                     (call.inputs[1].bytes == 0 || call.inputs[1].bytes == uint32_t(4 * (tables_before + head_dim))) &&
                     call.inputs[2].bytes == table && call.inputs[3].bytes == table && call.outputs[0].bytes == x;
  if (!call.check(sized, "a buffer of another size than the scalars make it")) return;
  std::memcpy(call.outputs[0].data, call.inputs[0].data, x);
  RopeArgs args = {};
  args.x = reinterpret_cast<float*>(call.outputs[0].data) + before;
  args.x_stride = stride;
  args.weight = call.inputs[1].bytes ? reinterpret_cast<const float*>(call.inputs[1].data) + tables_before : nullptr;
  std::memcpy(&args.eps, &s[6], sizeof args.eps);
  args.cos = reinterpret_cast<const float*>(call.inputs[2].data) + tables_before;
  args.sin = reinterpret_cast<const float*>(call.inputs[3].data) + tables_before;
  args.position = position;
  args.rows = rows;
  args.heads = heads;
  args.head_dim = head_dim;
  call.measure([&] { kernel(args, s[8], s[9]); });
}

}  // namespace

void rope_fixed(KernelCall& call) { rope(call, rope_fixed); }
void rope_hvx(KernelCall& call) { rope(call, rope_hvx); }

}  // namespace hvl

// linear's kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/linear/hexagon_dots.h"
#include "kernels/linear/linear.h"

namespace hvl {
namespace {

// Scalars: bits, group_size, tokens, row_blocks, groups, bytes before the values of every group.
// Inputs: x, sums, the packed weight. Output: dots.
void linear_dots(KernelCall& call, void (*kernel)(const LinearDotsArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(6, 3, 1)) return;
  const int32_t bits = call.scalars[0], group_size = call.scalars[1], tokens = call.scalars[2], row_blocks = call.scalars[3];
  const int32_t groups = call.scalars[4], header = call.scalars[5];
  if (!call.check(bits == 4 || bits == 8, "bits: 4 or 8")) return;
  const LinearWeight weight = {nullptr, 0, 0, bits, group_size, 32};
  if (!call.check(linear_group_fits(weight), "group_size: 32, 64 or 128; for 8 bits also 256, 384 or 512")) return;
  constexpr int32_t kMost = 1 << 16;
  const bool sized = 0 < tokens && tokens <= kMost && 0 < row_blocks && row_blocks <= kMost && 0 < groups && groups <= kMost;
  if (!call.check(sized, "tokens, row_blocks and groups: 1 to 65536")) return;
  if (!call.check(0 <= header && header <= 4096 && header % 128 == 0, "header: a multiple of 128 up to 4096")) return;
  const int64_t group_bytes = header + int64_t(kLinearRowBlock) * group_size * bits / 8;
  const int64_t padded_cols = int64_t(groups) * group_size;
  const bool fits = call.inputs[0].bytes == 2 * tokens * padded_cols && call.inputs[1].bytes == int64_t(tokens) * groups * 4 &&
                    call.inputs[2].bytes == group_bytes * groups * row_blocks &&
                    call.outputs[0].bytes == int64_t(row_blocks) * groups * tokens * kLinearRowBlock * 4;
  if (!call.check(fits, "a buffer of another size than bits, group_size, tokens, row_blocks, groups and header make it")) return;
  const LinearDotsArgs args = {.x = call.inputs[0].data,
                               .sums = reinterpret_cast<const int32_t*>(call.inputs[1].data),
                               .values = call.inputs[2].data + header,
                               .block_stride = int32_t(group_bytes * groups),
                               .group_stride = int32_t(group_bytes),
                               .dots = reinterpret_cast<int32_t*>(call.outputs[0].data),
                               .tokens = tokens,
                               .row_blocks = row_blocks,
                               .groups = groups,
                               .group_size = group_size,
                               .bits = bits};
  call.measure([&] { kernel(args, 0, row_blocks); });
}

}  // namespace

void linear_dots_reference(KernelCall& call) { linear_dots(call, linear_dots_reference); }
void linear_dots_hvx(KernelCall& call) { linear_dots(call, linear_dots_hexagon_hvx); }

}  // namespace hvl

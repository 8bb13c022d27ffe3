// linear's kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/linear/hexagon_dots.h"
#include "kernels/registry.h"

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

// Scalars: tokens, cols, x_bits, rows, bits, group_size, scale_bits, zero_points, out_stride, bias?, residual?, begin, end.
// Inputs: x, its exponents and sums (QuantizedRows), the packed weight, bias, residual (empty without). Output: out, its last row without
// what follows the last output.
void linear(KernelCall& call, void (*kernel)(const LinearArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(13, 6, 1)) return;
  const auto [tokens, cols, x_bits, rows, bits, group_size, scale_bits, zero_points, out_stride, bias, residual, begin, end] =
      *reinterpret_cast<const int32_t(*)[13]>(call.scalars);
  const bool one_of = (bits == 4 || bits == 8) && (x_bits == 8 || x_bits == 16) && (scale_bits == 16 || scale_bits == 32) &&
                      (zero_points == 0 || zero_points == 1);
  const LinearWeight weight = {call.inputs[3].data, rows, cols, bits, group_size, scale_bits, zero_points};
  if (!call.check(one_of && linear_group_fits(weight), "bits, group_size, scale_bits or zero_points that linear.h does not have")) return;
  constexpr int32_t kMost = 1 << 16;
  const bool sized = 0 < tokens && tokens <= kMost && 0 < rows && rows <= kMost && 0 < cols && cols <= kMost && rows <= out_stride &&
                     out_stride <= 2 * kMost && 0 <= begin && begin <= end && end <= linear_row_blocks(weight);
  if (!call.check(sized && int64_t(tokens) * out_stride <= INT32_MAX / 8, "tokens, rows, cols, out_stride, begin or end out of range")) return;
  const int64_t groups = linear_groups(weight), outputs = int64_t(tokens - 1) * out_stride + rows;
  const bool fits = call.inputs[0].bytes == tokens * groups * group_size * (x_bits / 8) && call.inputs[1].bytes == tokens * groups * 4 &&
                    call.inputs[2].bytes == tokens * groups * 8 && call.inputs[3].bytes == linear_bytes(weight) &&
                    call.inputs[4].bytes == (bias ? uint32_t(rows) * 4 : 0) && call.inputs[5].bytes == (residual ? uint32_t(outputs) * 4 : 0) &&
                    call.outputs[0].bytes == outputs * 4;
  if (!call.check(fits, "a buffer of another size than the scalars make it")) return;
  const LinearArgs args = {
      .x = {call.inputs[0].data, reinterpret_cast<float*>(call.inputs[1].data), reinterpret_cast<int32_t*>(call.inputs[2].data), tokens, cols,
            group_size, x_bits},
      .weight = weight,
      .bias = bias ? reinterpret_cast<const float*>(call.inputs[4].data) : nullptr,
      .residual = residual ? reinterpret_cast<const float*>(call.inputs[5].data) : nullptr,
      .out = reinterpret_cast<float*>(call.outputs[0].data),
      .out_stride = out_stride};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void linear_fixed(KernelCall& call) { linear(call, linear_fixed); }
void linear_hvx(KernelCall& call) { linear(call, linear_hvx); }
void linear_dots_reference(KernelCall& call) { linear_dots(call, linear_dots_reference); }
void linear_dots_hvx(KernelCall& call) { linear_dots(call, linear_dots_hexagon_hvx); }

}  // namespace hvl

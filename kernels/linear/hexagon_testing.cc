// linear's kernels for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

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

}  // namespace hvl

// quantize's kernels for the test server.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: rows, cols, group_size, bits, and then two of the kernel's own; begin, end. Outputs: q, exponents, sums.
bool rows_of(KernelCall& call, QuantizedRows& out) {
  if (!call.has(8, 1, 3)) return false;
  const auto [rows, cols, group_size, bits, begin, end] = *reinterpret_cast<const int32_t(*)[6]>(call.scalars);
  constexpr int32_t kMost = 1 << 16;
  const bool one_of = (bits == 8 || bits == 16) && (group_size == 32 || group_size == 64 ||
                                                    (0 < group_size && group_size <= kMostGroup && group_size % 128 == 0));
  if (!call.check(one_of, "group_size or bits that quantize.h does not have")) return false;
  const bool sized = 0 < rows && rows <= kMost && 0 < cols && cols <= kMost && 0 <= begin && begin <= end && end <= rows;
  if (!call.check(sized, "rows, cols, begin or end out of range")) return false;
  const int64_t groups = rows * int64_t{quantized_groups(cols, group_size)};
  const bool fits = call.outputs[0].bytes == groups * group_size * (bits / 8) && call.outputs[1].bytes == groups * 4 &&
                    call.outputs[2].bytes == groups * 8;
  out = {call.outputs[0].data, reinterpret_cast<float*>(call.outputs[1].data), reinterpret_cast<int32_t*>(call.outputs[2].data), rows, cols,
         group_size, bits};
  return call.check(fits, "an output of another size than the scalars make it");
}

// Scalar 6: x_stride; scalar 7: how many numbers x starts after the buffer's beginning.
void quantize(KernelCall& call, void (*kernel)(const QuantizeArgs&, int32_t, int32_t) noexcept) {
  QuantizedRows out;
  if (!rows_of(call, out)) return;
  const int32_t stride = call.scalars[6], at = call.scalars[7];
  const bool fits = out.cols <= stride && stride <= 1 << 17 && 0 <= at && at < 64 &&
                    call.inputs[0].bytes == (at + int64_t(out.rows - 1) * stride + out.cols) * 4;
  if (!call.check(fits, "x of another size than the scalars make it")) return;
  const QuantizeArgs args = {reinterpret_cast<const float*>(call.inputs[0].data) + at, stride, out};
  call.measure([&] { kernel(args, call.scalars[4], call.scalars[5]); });
}

// Scalar 6: the bits of the scale, a float; scalar 7 as above.
void quantize_i16(KernelCall& call, void (*kernel)(const QuantizeI16Args&, int32_t, int32_t) noexcept) {
  QuantizedRows out;
  if (!rows_of(call, out)) return;
  const int32_t at = call.scalars[7];
  const bool fits = out.bits == 16 && 0 <= at && at < 64 && call.inputs[0].bytes == (at + int64_t(out.rows) * out.cols) * 2;
  if (!call.check(fits, "x of another size than the scalars make it, or not 16 bits")) return;
  QuantizeI16Args args = {reinterpret_cast<const int16_t*>(call.inputs[0].data) + at, 0, out};
  __builtin_memcpy(&args.scale, &call.scalars[6], sizeof args.scale);
  call.measure([&] { kernel(args, call.scalars[4], call.scalars[5]); });
}

}  // namespace

void quantize_fixed(KernelCall& call) { quantize(call, quantize_fixed); }
void quantize_hvx(KernelCall& call) { quantize(call, quantize_hvx); }
void quantize_i16_fixed(KernelCall& call) { quantize_i16(call, quantize_i16_fixed); }
void quantize_i16_hvx(KernelCall& call) { quantize_i16(call, quantize_i16_hvx); }

}  // namespace hvl

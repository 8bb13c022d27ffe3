// The VRC's layers for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

constexpr int32_t kMost = 1 << 12, kMostBefore = 256;

bool sized(int32_t n) { return 0 < n && n <= kMost; }

// Bias, multiplier and shift of each channel, one after another.
bool take_requant(KernelCall& call, const Buffer& buffer, int32_t channels, VrcRequant& requant) {
  if (!call.check(buffer.bytes == uint32_t(channels) * 12, "bias, multiplier and shift of every channel")) return false;
  const auto* words = reinterpret_cast<const int32_t*>(buffer.data);
  requant = {words, words + channels, words + 2 * channels};
  for (int32_t c = 0; c < channels; ++c) {
    if (!call.check(1 <= requant.shift[c] && requant.shift[c] <= 62, "shifts of 1 to 62")) return false;
  }
  return true;
}

// Scalars: in_height, in_width, channels, first row, end of the rows, bytes before the image. Inputs: image, weight, requantisation. Output.
void stem(KernelCall& call, void (*kernel)(const VrcStemArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(6, 3, 1)) return;
  const auto [height, width, channels, begin, end, before] = *reinterpret_cast<const int32_t(*)[6]>(call.scalars);
  if (!call.check(sized(height) && sized(width) && sized(channels) && channels % kVrcLanes == 0, "sizes of 1 to 4096")) return;
  if (!call.check(0 <= before && before <= kMostBefore, "bytes before the image: up to 256")) return;
  const int32_t out_height = (height + 1) / 2, out_width = (width + 1) / 2;
  if (!call.check(0 <= begin && begin <= end && end <= out_height, "rows from begin to end")) return;
  VrcStemArgs args = {call.inputs[0].data + before, call.outputs[0].data, height, width, out_height, out_width, channels,
                      reinterpret_cast<const int8_t*>(call.inputs[1].data), {}};
  const bool fits = call.inputs[0].bytes == uint32_t(before) + uint32_t(height) * uint32_t(width) * 3 &&
                    call.inputs[1].bytes == uint32_t(channels) * 36 && call.outputs[0].bytes == uint32_t(out_height * out_width) * uint32_t(channels);
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  if (!take_requant(call, call.inputs[2], channels, args.requant)) return;
  call.measure([&] { kernel(args, begin, end); });
}

// Scalars: in_height, in_width, channels, stride, zero point, first row, end of the rows, bytes before the input. Inputs and output as above.
void depthwise(KernelCall& call, void (*kernel)(const VrcDepthwiseArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(8, 3, 1)) return;
  const auto [height, width, channels, stride, zero_point, begin, end, before] = *reinterpret_cast<const int32_t(*)[8]>(call.scalars);
  if (!call.check(sized(height) && sized(width) && sized(channels) && channels % kVrcLanes == 0, "sizes of 1 to 4096")) return;
  if (!call.check((stride == 1 || stride == 2) && (zero_point == 0 || zero_point == 128), "stride 1 or 2, zero point 0 or 128")) return;
  if (!call.check(0 <= before && before <= kMostBefore, "bytes before the input: up to 256")) return;
  const int32_t out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
  if (!call.check(0 <= begin && begin <= end && end <= out_height, "rows from begin to end")) return;
  VrcDepthwiseArgs args = {call.inputs[0].data + before, call.outputs[0].data, height, width, out_height, out_width, channels, stride, zero_point,
                           reinterpret_cast<const int8_t*>(call.inputs[1].data), {}};
  const bool fits = call.inputs[0].bytes == uint32_t(before) + uint32_t(height * width) * uint32_t(channels) &&
                    call.inputs[1].bytes == uint32_t(channels) * 9 && call.outputs[0].bytes == uint32_t(out_height * out_width) * uint32_t(channels);
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  if (!take_requant(call, call.inputs[2], channels, args.requant)) return;
  call.measure([&] { kernel(args, begin, end); });
}

// Scalars: pixels, in_stride, k_groups, channels, zero point of the output, residual multiplier, residual shift (0: no residual), first unit, end of
// the units, bytes before the input. Inputs: pixels, weight, requantisation, residual (or nothing). Output.
void pointwise(KernelCall& call, void (*kernel)(const VrcPointwiseArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(10, 4, 1)) return;
  const auto [pixels, in_stride, k_groups, channels, zero_point, multiplier, shift, begin, end, before] =
      *reinterpret_cast<const int32_t(*)[10]>(call.scalars);
  const bool sizes = sized(pixels) && sized(in_stride) && sized(k_groups) && 4 * k_groups <= in_stride && sized(channels);
  if (!call.check(sizes && channels % kVrcLanes == 0, "sizes of 1 to 4096")) return;
  if (!call.check((zero_point == 0 || zero_point == 128) && 0 <= shift && shift <= 62, "zero point 0 or 128, a shift up to 62")) return;
  if (!call.check(0 <= before && before <= kMostBefore, "bytes before the input: up to 256")) return;
  VrcPointwiseArgs args = {call.inputs[0].data + before, call.outputs[0].data, pixels, in_stride, k_groups, channels,
                           reinterpret_cast<const int8_t*>(call.inputs[1].data), {}, zero_point, shift ? call.inputs[3].data : nullptr, multiplier, shift};
  const uint32_t out_bytes = uint32_t(pixels) * uint32_t(channels);
  const bool fits = call.inputs[0].bytes == uint32_t(before) + uint32_t(pixels) * uint32_t(in_stride) &&
                    call.inputs[1].bytes == uint32_t(channels) * uint32_t(k_groups) * 4 && call.inputs[3].bytes == (shift ? out_bytes : 0) &&
                    call.outputs[0].bytes == out_bytes;
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  if (!call.check(0 <= begin && begin <= end && end <= vrc_pointwise_units(args), "units from begin to end")) return;
  if (!take_requant(call, call.inputs[2], channels, args.requant)) return;
  call.measure([&] { kernel(args, begin, end); });
}

// Scalars: pixels, channels, weight_stride, first block, end of the blocks, bytes before the input. Inputs: pixels, weight. Output.
void pool(KernelCall& call, void (*kernel)(const VrcPoolArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(6, 2, 1)) return;
  const auto [pixels, channels, stride, begin, end, before] = *reinterpret_cast<const int32_t(*)[6]>(call.scalars);
  const bool sizes = 0 < pixels && pixels <= kVrcPoolMaxPixels && sized(channels) && channels % kVrcLanes == 0 && sized(stride);
  if (!call.check(sizes && 0 <= before && before <= kMostBefore, "sizes of 1 to 4096")) return;
  if (!call.check(0 <= begin && begin <= end && end <= channels / kVrcLanes, "blocks from begin to end")) return;
  const bool fits = call.inputs[0].bytes == uint32_t(before) + uint32_t(pixels) * uint32_t(channels) &&
                    call.inputs[1].bytes == uint32_t(pixels) * uint32_t(stride) && call.outputs[0].bytes == uint32_t(channels);
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  const VrcPoolArgs args = {call.inputs[0].data + before, call.inputs[1].data, call.outputs[0].data, pixels, channels, stride};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void vrc_stem_reference(KernelCall& call) { stem(call, vrc_stem_reference); }
void vrc_stem_hvx(KernelCall& call) { stem(call, vrc_stem_hvx); }
void vrc_depthwise_reference(KernelCall& call) { depthwise(call, vrc_depthwise_reference); }
void vrc_depthwise_hvx(KernelCall& call) { depthwise(call, vrc_depthwise_hvx); }
void vrc_pointwise_reference(KernelCall& call) { pointwise(call, vrc_pointwise_reference); }
void vrc_pointwise_hvx(KernelCall& call) { pointwise(call, vrc_pointwise_hvx); }
void vrc_pool_reference(KernelCall& call) { pool(call, vrc_pool_reference); }
void vrc_pool_hvx(KernelCall& call) { pool(call, vrc_pool_hvx); }

}  // namespace hvl

// Both passes of resizing for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: in_height, in_width, out_size, taps, begin, end, bytes before the image and before the output. Inputs: image, first, weights. Output.
void resize(KernelCall& call, void (*kernel)(const ResizeArgs&, int32_t, int32_t) noexcept, bool vertical) {
  if (!call.has(8, 3, 1)) return;
  const auto [height, width, out_size, taps, begin, end, before, out_before] = *reinterpret_cast<const int32_t(*)[8]>(call.scalars);
  constexpr int32_t kMost = 1 << 13;
  const auto sized = [](int32_t n) { return 0 < n && n <= kMost; };
  if (!call.check(sized(height) && sized(width) && sized(out_size), "sizes of 1 to 8192")) return;
  const int32_t axis = vertical ? height : width, out_lines = vertical ? out_size : height;
  if (!call.check(0 < taps && taps <= axis, "taps: 1 up to the side that is resized")) return;
  if (!call.check(0 <= begin && begin <= end && end <= out_lines, "lines from begin to end")) return;
  if (!call.check(0 <= before && before <= 256 && 0 <= out_before && out_before <= 256, "bytes before a buffer: up to 256")) return;
  const int64_t out_pixels = int64_t(out_lines) * (vertical ? width : out_size);
  const bool fits = call.inputs[0].bytes == int64_t(height) * width * 3 + before && call.inputs[1].bytes == uint32_t(out_size) * 4 &&
                    call.inputs[2].bytes == uint64_t(out_size) * uint32_t(taps) * 4 && call.outputs[0].bytes == out_pixels * 3 + out_before;
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  const auto* first = reinterpret_cast<const int32_t*>(call.inputs[1].data);
  for (int32_t i = 0; i < out_size; ++i) {
    if (!call.check(0 <= first[i] && first[i] <= axis - taps && (i == 0 || first[i] >= first[i - 1]), "taps within the image, in order")) return;
  }
  const ResizeArgs args = {call.inputs[0].data + before, call.outputs[0].data + out_before, height, width, out_size, first,
                           reinterpret_cast<const int32_t*>(call.inputs[2].data), taps, nullptr};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void resize_horizontal_reference(KernelCall& call) { resize(call, resize_horizontal_reference, false); }
void resize_horizontal_hvx(KernelCall& call) { resize(call, resize_horizontal_hvx, false); }
void resize_vertical_reference(KernelCall& call) { resize(call, resize_vertical_reference, true); }
void resize_vertical_hvx(KernelCall& call) { resize(call, resize_vertical_hvx, true); }

}  // namespace hvl

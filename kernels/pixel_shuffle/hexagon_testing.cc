// pixel_shuffle for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: grid_h, grid_w, cols, factor, begin, end, words before x and before the output. Input: x. Output.
void pixel_shuffle(KernelCall& call, void (*kernel)(const PixelShuffleArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(8, 1, 1)) return;
  const auto [grid_h, grid_w, cols, factor, begin, end, x_before, out_before] =
      *reinterpret_cast<const int32_t(*)[8]>(call.scalars);
  constexpr int32_t kMost = 1 << 12;
  const auto sized = [](int32_t n) { return 0 < n && n <= kMost; };
  if (!call.check(sized(grid_h) && sized(grid_w) && sized(cols) && sized(factor), "grid, cols and factor: 1 to 4096")) return;
  if (!call.check(grid_h % factor == 0 && grid_w % factor == 0, "a grid of multiples of the factor")) return;
  if (!call.check(0 <= begin && begin <= end && end <= grid_h / factor * (grid_w / factor), "tokens from begin to end")) return;
  const bool placed = 0 <= x_before && x_before <= kMost && 0 <= out_before && out_before <= kMost;
  if (!call.check(placed, "words before a buffer: up to 4096")) return;
  const int64_t words = int64_t(grid_h) * grid_w * cols;
  const bool fits = call.inputs[0].bytes == 4 * (words + x_before) && call.outputs[0].bytes == 4 * (words + out_before);
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  const auto at = [](const Buffer& buffer, int32_t before) { return reinterpret_cast<float*>(buffer.data) + before; };
  const PixelShuffleArgs args = {at(call.inputs[0], x_before), at(call.outputs[0], out_before), grid_h, grid_w, cols, factor};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void pixel_shuffle_reference(KernelCall& call) { pixel_shuffle(call, pixel_shuffle_reference); }
void pixel_shuffle_hvx(KernelCall& call) { pixel_shuffle(call, pixel_shuffle_hvx); }

}  // namespace hvl

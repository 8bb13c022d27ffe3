// patchify for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: height, width, top, left, grid_h, grid_w, patch, begin, end, bytes before the image, values before the table and the output.
// Inputs: image, table. Output: the patches.
void patchify(KernelCall& call, void (*kernel)(const PatchifyArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(12, 2, 1)) return;
  const auto [height, width, top, left, grid_h, grid_w, patch, begin, end, image_before, table_before, out_before] =
      *reinterpret_cast<const int32_t(*)[12]>(call.scalars);
  constexpr int32_t kMost = 1 << 12;
  const auto sized = [](int32_t n) { return 0 < n && n <= kMost; };
  if (!call.check(sized(height) && sized(width), "height and width: 1 to 4096")) return;
  if (!call.check(sized(grid_h) && sized(grid_w) && sized(patch) && patch <= 128, "grid: 1 to 4096; patch: 1 to 128")) return;
  if (!call.check(0 <= top && top <= kMost && 0 <= left && left <= kMost, "top and left: 0 to 4096")) return;
  if (!call.check(0 <= begin && begin <= end && end <= grid_h, "rows of patches from begin to end")) return;
  for (int i = 9; i < 12; ++i) {
    if (!call.check(0 <= call.scalars[i] && call.scalars[i] <= kMost, "before a buffer: up to 4096")) return;
  }
  const bool fits = call.inputs[0].bytes == image_before + int64_t(height) * width * 3 &&
                    call.inputs[1].bytes == 2 * (table_before + int64_t{3} * 257) &&
                    call.outputs[0].bytes == 2 * (out_before + int64_t(grid_h) * grid_w * 3 * patch * patch);
  if (!call.check(fits, "a buffer of another size than its scalars make it")) return;
  const PatchifyArgs args = {.image = call.inputs[0].data + image_before,
                             .height = height,
                             .width = width,
                             .top = top,
                             .left = left,
                             .grid_h = grid_h,
                             .grid_w = grid_w,
                             .patch = patch,
                             .table = reinterpret_cast<const int16_t*>(call.inputs[1].data) + table_before,
                             .out = reinterpret_cast<int16_t*>(call.outputs[0].data) + out_before};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void patchify_reference(KernelCall& call) { patchify(call, patchify_reference); }
void patchify_hvx(KernelCall& call) { patchify(call, patchify_hvx); }

}  // namespace hvl

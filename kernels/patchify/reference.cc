// Pixels of a tile to patch rows, plain loops (variants: kernels/tvm/image.py).
#include "kernels/patchify/patchify.h"

#include "kernels/tvm/variant.h"

namespace hvl {

void HVL_VARIANT(patchify)(const PatchifyArgs& a, int32_t begin, int32_t end) noexcept {
  constexpr int32_t kEntries = 257;  // of the table, a channel; the last is the pad value
  const int64_t columns = int64_t(3) * a.patch * a.patch;
  for (int32_t gy = begin; gy < end; ++gy) {
    for (int32_t gx = 0; gx < a.grid_w; ++gx) {
      int16_t* out = a.out + (int64_t(gy) * a.grid_w + gx) * columns;
      for (int32_t c = 0; c < 3; ++c) {
        const int16_t* table = a.table + c * kEntries;
        for (int32_t py = 0; py < a.patch; ++py) {
          const int64_t y = int64_t(a.top) + int64_t(gy) * a.patch + py;
          for (int32_t px = 0; px < a.patch; ++px) {
            const int64_t x = int64_t(a.left) + int64_t(gx) * a.patch + px;
            const bool inside = y < a.height && x < a.width;
            *out++ = table[inside ? a.image[(y * a.width + x) * 3 + c] : kEntries - 1];
          }
        }
      }
    }
  }
}

}  // namespace hvl

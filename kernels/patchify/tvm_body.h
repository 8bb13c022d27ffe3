// The patchify variant of one instruction set: a call for each row of patches into the function kernels/tvm/image.py compiled, or, in a
// build without TVM, the reference body. Included by avx2.cc and avx512vnni.cc.
#ifndef HVL_TVM_KERNELS
#include "kernels/patchify/reference.cc"
#else

#include "kernels/patchify/patchify.h"

extern "C" void HVL_TVM_FUNCTION(patchify)(const uint8_t* image, const int16_t* table, int16_t* out, int64_t image_width, int64_t rows,
                                           int64_t columns, int64_t grid_w, int64_t patch) noexcept;

namespace hvl {

void HVL_VARIANT(patchify)(const PatchifyArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t row_values = int64_t(a.grid_w) * 3 * a.patch * a.patch;
  const int64_t columns = int64_t(a.width) - a.left;
  for (int32_t gy = begin; gy < end; ++gy) {
    const int64_t top = int64_t(a.top) + int64_t(gy) * a.patch;
    const int64_t rows = a.height - top;
    // A row of patches outside of the image reads nothing: any pointer serves.
    const uint8_t* image = rows > 0 && columns > 0 ? a.image + (top * a.width + a.left) * 3 : a.image;
    HVL_TVM_FUNCTION(patchify)(image, a.table, a.out + gy * row_values, a.width, rows, columns, a.grid_w, a.patch);
  }
}

}  // namespace hvl

#endif

// The resize variants of one instruction set: rows cut to the functions kernels/tvm/image.py compiled, or, in a build without TVM, the
// reference body. Included by avx2.cc and avx512vnni.cc.
#ifndef HVL_TVM_KERNELS
#include "kernels/resize/reference.cc"
#else

#include "kernels/resize/resize.h"

extern "C" {
void HVL_TVM_FUNCTION(resize_horizontal)(const uint8_t* in, uint8_t* out, const int32_t* first, const int32_t* weights, int64_t taps,
                                         int64_t begin, int64_t end) noexcept;
void HVL_TVM_FUNCTION(resize_horizontal_edge)(const uint8_t* in, uint8_t* out, const int32_t* first, const int32_t* weights, int64_t taps,
                                              int64_t begin, int64_t end) noexcept;
void HVL_TVM_FUNCTION(resize_vertical)(const uint8_t* in, uint8_t* out, const int32_t* weights, int64_t taps, int64_t width,
                                       int64_t spans) noexcept;
void HVL_TVM_FUNCTION(resize_vertical_byte)(const uint8_t* in, uint8_t* out, const int32_t* weights, int64_t taps, int64_t width,
                                            int64_t spans) noexcept;
}

namespace hvl {

void HVL_VARIANT(resize_horizontal)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* in = a.in + int64_t(y) * a.in_width * 3;
    uint8_t* out = a.out + int64_t(y) * a.out_size * 3;
    // The fast function touches one byte past each pixel: not past the image's last pixel, nor past a row of the output.
    const int32_t fast = y + 1 < a.in_height ? a.out_size - 1 : 0;
    HVL_TVM_FUNCTION(resize_horizontal)(in, out, a.first, a.weights, a.taps, 0, fast);
    HVL_TVM_FUNCTION(resize_horizontal_edge)(in, out, a.first, a.weights, a.taps, fast, a.out_size);
  }
}

void HVL_VARIANT(resize_vertical)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t width = int64_t(a.in_width) * 3;
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* in = a.in + a.first[y] * width;
    const int32_t* weights = a.weights + int64_t(y) * a.taps;
    if (width >= HVL_TVM_SPAN) {
      const int64_t spans = (width + HVL_TVM_SPAN - 1) / HVL_TVM_SPAN;
      HVL_TVM_FUNCTION(resize_vertical)(in, a.out + y * width, weights, a.taps, width, spans);
    } else {
      HVL_TVM_FUNCTION(resize_vertical_byte)(in, a.out + y * width, weights, a.taps, width, width);
    }
  }
}

}  // namespace hvl

#endif

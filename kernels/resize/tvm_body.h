// The resize variants of one instruction set: rows cut to the functions kernels/tvm/image.py compiled, or, in a build without TVM, the
// reference body. Included by avx2.cc and avx512vnni.cc.
#ifndef HVL_TVM_KERNELS
#include "kernels/resize/reference.cc"
#else

#include "kernels/resize/resize.h"

extern "C" {
void HVL_TVM_FUNCTION(resize_horizontal)(const uint8_t* in, uint8_t* out, const int32_t* first, const int32_t* digits, int64_t groups,
                                         int64_t in_width, int64_t out_width, int64_t count) noexcept;
void HVL_TVM_FUNCTION(resize_horizontal_row)(const uint8_t* in, uint8_t* out, const int32_t* first, const int32_t* digits, int64_t groups,
                                             int64_t in_width, int64_t out_width, int64_t count) noexcept;
void HVL_TVM_FUNCTION(resize_horizontal_edge)(const uint8_t* in, uint8_t* out, const int32_t* first, const int32_t* weights, int64_t taps,
                                              int64_t begin, int64_t end) noexcept;
void HVL_TVM_FUNCTION(resize_vertical)(const uint8_t* in, uint8_t* out, const int32_t* digits, int64_t taps, int64_t width,
                                       int64_t out_height, int64_t row) noexcept;
void HVL_TVM_FUNCTION(resize_vertical_byte)(const uint8_t* in, uint8_t* out, const int32_t* weights, int64_t taps, int64_t width) noexcept;
}

namespace hvl {
namespace {

constexpr int32_t kRows = 4;       // lines that resize_horizontal takes at once
constexpr int64_t kReadBytes = 16;  // what it reads for four taps

}  // namespace

void HVL_VARIANT(resize_horizontal)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t in_row = int64_t(a.in_width) * 3, out_row = int64_t(a.out_size) * 3;
  const int32_t groups = (a.taps + 3) / 4;
  // From the last lines of the image, reading ahead must not leave it: their last outputs are computed by themselves.
  int32_t last_line_outputs = a.out_size;
  while (last_line_outputs > 0 && (a.first[last_line_outputs - 1] + 4 * int64_t(groups) - 4) * 3 + kReadBytes > in_row) --last_line_outputs;
  for (int32_t y = begin; y < end;) {
    const uint8_t* in = a.in + y * in_row;
    uint8_t* out = a.out + y * out_row;
    const bool four = end - y >= kRows;
    const int32_t lines = four ? kRows : 1;
    const bool inside = (a.in_height - int64_t(y) - lines) * in_row >= kReadBytes;
    if (four && inside && a.out_size >= HVL_TVM_OUTPUTS) {
      HVL_TVM_FUNCTION(resize_horizontal)(in, out, a.first, a.digits, groups, a.in_width, a.out_size, a.out_size);
      y += kRows;
      continue;
    }
    int32_t fast = (a.in_height - int64_t(y) - 1) * in_row >= kReadBytes ? a.out_size : last_line_outputs;
    if (fast < HVL_TVM_OUTPUTS) fast = 0;
    if (fast > 0) HVL_TVM_FUNCTION(resize_horizontal_row)(in, out, a.first, a.digits, groups, a.in_width, a.out_size, fast);
    HVL_TVM_FUNCTION(resize_horizontal_edge)(in, out, a.first, a.weights, a.taps, fast, a.out_size);
    ++y;
  }
}

void HVL_VARIANT(resize_vertical)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t width = int64_t(a.in_width) * 3;
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* in = a.in + a.first[y] * width;
    uint8_t* out = a.out + y * width;
    if (width >= HVL_TVM_SPAN) {
      HVL_TVM_FUNCTION(resize_vertical)(in, out, a.digits, a.taps, width, a.out_size, y);
    } else {
      HVL_TVM_FUNCTION(resize_vertical_byte)(in, out, a.weights + int64_t(y) * a.taps, a.taps, width);
    }
  }
}

}  // namespace hvl

#endif

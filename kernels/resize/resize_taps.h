// Filter taps of Pillow's antialiased resampling: what Image.resize computes for 8-bit images, to the bit.
#pragma once

#include <stdint.h>

#include <vector>

namespace hvl {

enum class ResizeFilter { kBilinear, kBicubic };  // supports 1 and 2; bicubic with a = -0.5

struct ResizeTaps {
  int32_t taps = 0;              // per output
  std::vector<int32_t> first;    // (out_size) first source index; first + taps <= in_size
  std::vector<int32_t> weights;  // (out_size, taps), 22-bit fixed point, rounded half away from zero
  std::vector<int32_t> digits;   // of weights: resize_digits
};

// in_size and out_size in 1 .. 2^24. Throws Error(kValue) outside of that.
ResizeTaps resize_taps(int32_t in_size, int32_t out_size, ResizeFilter filter);

// weights (out_size, taps) -> (ceil(taps / 4), 4, out_size): of each weight w = high * 2^16 + low, both int16, the low digits of taps 0 and 1
// of four (tap 0 in the low half), their high digits, and the same of taps 2 and 3. Taps that are not there are 0.
std::vector<int32_t> resize_digits(int32_t out_size, int32_t taps, const int32_t* weights);

// Which pass runs first; bytes between the passes are rounded, so the order shows. Pillow 13's rule: vertical first when the height
// shrinks by more than twice the pixels the width shrinks by (older versions always run the horizontal pass first).
constexpr bool resize_vertical_first(int32_t in_height, int32_t in_width, int32_t out_height, int32_t out_width) {
  const int64_t rows = int64_t(in_height) - out_height;
  return rows > 0 && rows > 2 * (int64_t(in_width) - out_width);
}

}  // namespace hvl

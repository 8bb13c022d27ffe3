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
};

// in_size and out_size in 1 .. 2^24. Throws Error(kValue) outside of that.
ResizeTaps resize_taps(int32_t in_size, int32_t out_size, ResizeFilter filter);

}  // namespace hvl

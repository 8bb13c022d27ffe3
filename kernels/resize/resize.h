// One pass of Pillow's antialiased resampling on 8-bit RGB: integers, so every machine gets the same pixels.
//   out = clamp8((2^21 + sum_t pixel[first + t] * weights[t]) >> 22)
// Filter taps are computed once a size on the host (resize_taps.h) as Pillow does: 22-bit fixed point, rounded half away from zero.
#pragma once

#include <stdint.h>

namespace hvl {

// Of weights: sums of pixels fit into 32 bits, and every weight into three signed digits of 8 bits. Pillow's filters have less than 1.3 * 2^22.
inline constexpr int32_t kResizeMostSum = 127 << 16;

struct ResizeArgs {
  const uint8_t* in;       // (in_height, in_width, 3) contiguous
  uint8_t* out;            // horizontal: (in_height, out_size, 3); vertical: (out_size, in_width, 3)
  int32_t in_height;
  int32_t in_width;
  int32_t out_size;        // outputs along the resized axis
  const int32_t* first;    // (out_size) first source index of each output
  const int32_t* weights;  // (out_size, taps), zero where an output uses fewer taps (first + taps never passes the end of the axis);
                           // the magnitudes of an output sum up to kResizeMostSum at most
  int32_t taps;
  const int32_t* digits;   // (ceil(taps / 4), 4, out_size), the same weights for instructions on 16 bits: resize_taps.h
};
// Work unit: one output row, of both passes.

}  // namespace hvl

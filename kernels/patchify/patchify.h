// 8-bit RGB pixels of one tile -> rows of a patch matrix, normalised through a table, in the (channel, y, x) order of a convolution's weight.
#pragma once

#include <stdint.h>

namespace hvl {

struct PatchifyArgs {
  const uint8_t* image;    // (height, width, 3), whole resized image
  int32_t height;
  int32_t width;
  int32_t top;             // of the tile in the image, pixels
  int32_t left;
  int32_t grid_h;          // patches; the tile may reach past the image: those pixels are pad
  int32_t grid_w;
  int32_t patch;           // side of a patch, pixels
  const int16_t* table;    // (3, 257): normalised value of each pixel value by channel; entry 256 is the pad value
  int16_t* out;            // (grid_h * grid_w, 3 * patch * patch)
};
// Work unit: one row of patches (grid_w patches).

}  // namespace hvl

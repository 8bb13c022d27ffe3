// Space to depth over a grid of tokens: out token (i, j) = concat over (dy, dx) row-major of in token (i*s + dy, j*s + dx).
#pragma once

#include <stdint.h>

namespace hvl {

struct PixelShuffleArgs {
  const float* x;    // (grid_h * grid_w, cols)
  float* out;        // (grid_h / s * grid_w / s, cols * s * s)
  int32_t grid_h;    // multiples of s
  int32_t grid_w;
  int32_t cols;
  int32_t factor;    // s
};
// Work unit: one output token.

}  // namespace hvl

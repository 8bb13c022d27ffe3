// Space to depth: copies of whole tokens, written once over the vec16 of the including variant.
#pragma once

#include "kernels/pixel_shuffle/pixel_shuffle.h"

namespace hvl {
namespace {

HVL_VEC void copy_floats(const float* x, float* out, int32_t n) {
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) vec::store(out + i, vec::load(x + i));
  if (i < n) vec::store_n(out + i, vec::load_n(x + i, n - i), n - i);
}

HVL_VEC void pixel_shuffle_body(const PixelShuffleArgs& args, int32_t begin, int32_t end) {
  const int32_t s = args.factor;
  const int32_t out_w = args.grid_w / s;
  for (int32_t token = begin; token < end; ++token) {
    const int32_t i = token / out_w;
    const int32_t j = token % out_w;
    float* out = args.out + int64_t{token} * args.cols * s * s;
    for (int32_t dy = 0; dy < s; ++dy) {
      // The s tokens of one line lie side by side in the input and in the output alike.
      const float* x = args.x + (int64_t{i * s + dy} * args.grid_w + int64_t{j} * s) * args.cols;
      copy_floats(x, out, s * args.cols);
      out += int64_t{s} * args.cols;
    }
  }
}

}  // namespace
}  // namespace hvl

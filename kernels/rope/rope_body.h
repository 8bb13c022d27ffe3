// Per-head RMSNorm and half-split rotation in place, written once over the vec16 of the including variant.
#pragma once

#include "kernels/common/rms.h"
#include "kernels/rope/rope.h"

namespace hvl {
namespace {

HVL_VEC void rope_head(const RopeArgs& args, float* x, const float* cos, const float* sin) {
  const int32_t half = args.head_dim / 2;
  const float* weight = args.weight;
  const vec::Vec16 inverse = vec::set1(weight != nullptr ? inverse_rms(x, args.head_dim, args.eps) : 1.0f);
  for (int32_t i = 0; i < half; i += 16) {
    // Both halves are read before either is written: their lanes are the same i.
    const int n = half - i < 16 ? half - i : 16;
    vec::Vec16 first = vec::load_n(x + i, n);
    vec::Vec16 second = vec::load_n(x + half + i, n);
    if (weight != nullptr) {
      first = vec::mul(vec::mul(first, inverse), vec::load_n(weight + i, n));
      second = vec::mul(vec::mul(second, inverse), vec::load_n(weight + half + i, n));
    }
    const vec::Vec16 c = vec::load_n(cos + i, n);
    const vec::Vec16 s = vec::load_n(sin + i, n);
    vec::store_n(x + i, vec::fms(first, c, vec::mul(second, s)), n);
    vec::store_n(x + half + i, vec::fma(second, c, vec::mul(first, s)), n);
  }
}

HVL_VEC void rope_body(const RopeArgs& args, int32_t begin, int32_t end) {
  const int32_t half = args.head_dim / 2;
  for (int32_t row = begin; row < end; ++row) {
    const int64_t at = (int64_t{args.position} + row) * half;
    float* x = args.x + row * args.x_stride;
    for (int32_t head = 0; head < args.heads; ++head) {
      rope_head(args, x + int64_t{head} * args.head_dim, args.cos + at, args.sin + at);
    }
  }
}

}  // namespace
}  // namespace hvl

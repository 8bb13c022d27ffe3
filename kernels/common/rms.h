// 1 / sqrt(sum(x^2) / n + eps) in the arithmetic of kernels/norm/norm.h, shared by the norm and rope kernels.
#pragma once

#include <stdint.h>

namespace hvl {
namespace {

HVL_VEC float inverse_rms(const float* x, int32_t n, float eps) {
  vec::Vec16 sum = vec::zero();
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const vec::Vec16 v = vec::load(x + i);
    sum = vec::fma(v, v, sum);
  }
  if (i < n) {
    const vec::Vec16 v = vec::load_n(x + i, n - i);
    sum = vec::fma(v, v, sum);
  }
  return 1.0f / vec::scalar_sqrt(vec::merge_add(sum) / static_cast<float>(n) + eps);
}

}  // namespace
}  // namespace hvl

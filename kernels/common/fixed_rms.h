// Rows divided by their root mean square, for norm and rope: docs/integer_arithmetic.md, section Norms.
#pragma once

#include "kernels/common/fixed.h"

namespace hvl::fixed {
namespace {

constexpr int32_t kUnitFraction = 22;  // fraction bits of x / rms(x), which is at most the root of the row's length

// x / rms(x) with kUnitFraction fraction bits = round_down(mul31(x << lift, mantissa), shift).
struct InverseRms {
  int32_t lift, mantissa, shift;
};

// Of n values, n at most 2^15. eps is added to the mean of the squares.
inline InverseRms inverse_rms(const int32_t* x, int32_t n, float eps) {
  const int32_t bits = width(any_magnitude(x, n));
  const int32_t s = bits > 15 ? bits - 15 : 0;
  uint64_t squares = 0;  // of 16-bit values: exact
  for (int32_t i = 0; i < n; ++i) {
    const int32_t q = clamp(round_down(x[i], s), 32767);
    squares += uint64_t(uint32_t(q * q));
  }
  // The mean of the squares and eps, in 2^(2 s - 46).
  uint64_t mean = (squares << 16) / uint64_t(n);
  const Scalar e = scalar(eps);
  const int32_t up = e.exponent + 2 * kFraction + 16 - 2 * s;
  if (up >= 0) {
    mean += uint64_t(e.mantissa) << (up > 38 ? 38 : up);
  } else if (up > -64) {
    mean += uint64_t(e.mantissa) >> -up;
  }
  if (mean == 0) return {0, 0, 0};
  const int32_t even = __builtin_clzll(mean) & ~1;
  const uint64_t inverse = (uint64_t{1} << 62) / root(mean << even);  // in (2^30, 2^31]
  return {31 - bits, inverse > uint64_t(kMost) ? kMost : int32_t(inverse), s + 32 - bits - even / 2};
}

inline int32_t unit(int32_t x, const InverseRms& inverse) {
  return round_down(mul31(int32_t(uint32_t(x) << inverse.lift), inverse.mantissa), inverse.shift);
}

// unit * weight (a word of mantissa and exponent), an activation.
inline int32_t weighted(int32_t unit, int32_t weight) {
  return round_down(mul15(unit, scaled_mantissa(weight)), kUnitFraction - kFraction - 15 - scaled_exponent(weight));
}

}  // namespace
}  // namespace hvl::fixed

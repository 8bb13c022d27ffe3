// The part of a row's root mean square that is one number a row (fixed_rms.h, inverse_rms): in 32-bit multiplications and without
// divisions, which the processor does not have. Portable; equal to fixed.h to the bit.
#pragma once

#include <stdint.h>

#include "kernels/common/fixed.h"
#include "kernels/common/fixed_rms.h"

namespace hvl::hexagon {
namespace {

// Division by n in 1 .. 32768, rounded down.
class Divider {
 public:
  explicit Divider(int32_t n)
      : n_(uint32_t(n)), shift_(31 + fixed::width(n - 1)), factor_(((uint64_t{1} << shift_) + n_ - 1) / n_) {}

  // x < 2^31. factor * n exceeds 2^shift by less than n, which is at most 2^(shift - 31): exact.
  uint32_t of(uint32_t x) const { return uint32_t((x * factor_) >> shift_); }
  // x < 2^47.
  uint64_t of_long(uint64_t x, uint32_t* rest) const {
    const uint32_t high = of(uint32_t(x >> 16));
    const uint32_t low = uint32_t(x) - (high << 16) * n_;  // x - high * 2^16 * n, which is below 2^31
    const uint32_t quotient = of(low);
    *rest = low - quotient * n_;
    return (uint64_t{high} << 16) + quotient;
  }

 private:
  uint32_t n_;
  int32_t shift_;
  uint64_t factor_;  // at most 2^32
};

// r = floor(sqrt(m)) and floor(2^62 / r), m from 2^62 on.
struct Root {
  uint32_t root, inverse;
};
inline Root root_of(uint64_t m) {
  const uint32_t x = uint32_t(m >> 32);
  // Newton's y -> y (3 - x y^2) / 2 for y = 2^46 / sqrt(x), in 2^30 .. 2^31. It starts from a line within 13 %; four steps leave 2^-29.
  uint32_t y = uint32_t(2309000000u - ((uint64_t{x} * 1246000000u) >> 32));
  for (int step = 0; step < 4; ++step) {
    const uint32_t xy = uint32_t((uint64_t{x} * y) >> 32);
    const uint32_t one = uint32_t((uint64_t{xy} * y) >> 30);  // x y^2: 2^30 in the end
    y = uint32_t((uint64_t{y} * (3221225472u - one)) >> 31);
  }
  // Both are then mended by what is missing to the exact value.
  uint64_t r = (uint64_t{x} * y) >> 30;
  if (r > UINT32_MAX) r = UINT32_MAX;
  int64_t missing = int64_t(m - r * r);
  r += uint64_t((missing / 65536 * int64_t{y}) >> 47);
  if (r > UINT32_MAX) r = UINT32_MAX;
  while (int64_t(m - r * r) < 0) --r;
  while (m - r * r > 2 * r) ++r;
  uint64_t inverse = y;
  missing = int64_t((uint64_t{1} << 62) - inverse * r);
  inverse += uint64_t((missing / 65536 * int64_t{y}) >> 46);
  missing = int64_t((uint64_t{1} << 62) - inverse * r);
  for (; missing < 0; missing += int64_t(r)) --inverse;
  for (; missing >= int64_t(r); missing -= int64_t(r)) ++inverse;
  return {uint32_t(r), uint32_t(inverse)};
}

// Of a row of n values that are `bits` wide: squares is the sum of the squares of the values at 16 bits.
inline fixed::InverseRms inverse_rms(uint64_t squares, int32_t bits, const Divider& divider, const fixed::Scalar& eps) {
  const int32_t s = bits > 15 ? bits - 15 : 0;
  uint32_t rest;
  const uint64_t whole = divider.of_long(squares, &rest);
  uint64_t mean = (whole << 16) + divider.of(rest << 16);
  const int32_t up = eps.exponent + 2 * fixed::kFraction + 16 - 2 * s;
  if (up >= 0) {
    mean += uint64_t(eps.mantissa) << (up > 38 ? 38 : up);
  } else if (up > -64) {
    mean += uint64_t(eps.mantissa) >> -up;
  }
  if (mean == 0) return {0, 0, 0};
  const int32_t even = __builtin_clzll(mean) & ~1;
  const uint32_t inverse = root_of(mean << even).inverse;
  return {31 - bits, inverse > uint32_t(fixed::kMost) ? fixed::kMost : int32_t(inverse), s + 32 - bits - even / 2};
}

}  // namespace
}  // namespace hvl::hexagon

// The inverse root mean square of fixed_rms.h for up to 16 rows at once. Sums and first approximations come from vectors; what is exact in
// 64 bits is plain C++, which starts from these where fixed_rms.h divides or takes a root bit by bit.
#pragma once

#include "kernels/common/fixed_rms.h"
#include "kernels/common/hexagon_words.h"

namespace hvl::hexagon {
namespace {

// About 2^46 / sqrt(t) of each t in 2^30 .. 2^32 - 1, unsigned: to some units, and at most 2^31 - 1.
HVL_HVX Vector inverse_roots(Vector t) {
  const Vector half = Q6_Vuw_vlsr_VuwR(t, 1);  // x = t / 2^32 with 31 fraction bits; y = 1 / sqrt(x) with 30
  // 2.13 - 1.215 x is within 9 %; each of y + y (1 - x y^2) / 2 makes e of an error 1.5 e^2.
  Vector y = Q6_Vw_vasl_VwR(Q6_Vw_vsub_VwVw(splat(1143534910), mul31(half, splat(652298158))), 1);
  for (int i = 0; i < 4; ++i) {
    const Vector missing = Q6_Vw_vsub_VwVw(splat(1 << 29), mul31(mul31(y, y), half));
    y = Q6_Vw_vadd_VwVw_sat(y, mul31(y, Q6_Vw_vasl_VwR(missing, 1)));
  }
  return y;
}

// floor(sqrt(x)), x from 2^62 on, of which `near` is not far away.
HVL_HVX uint32_t root(uint64_t x, uint64_t near) {
  uint32_t r = near > UINT32_MAX ? UINT32_MAX : uint32_t(near);
  while (uint64_t{r} * r > x) --r;
  while (r != UINT32_MAX && uint64_t{r + 1} * (r + 1) <= x) ++r;
  return r;
}

// Rows of n values, n at most 2^15, `stride` apart: rows of them, at most 16.
HVL_HVX void inverse_rms(const int32_t* x, int64_t stride, int32_t rows, int32_t n, float eps, fixed::InverseRms* out) {
  Vector lanes[kMostRows], high[kMostRows];
  RowNumbers any, low_sums, high_sums, roots = {};
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t* row = x + r * stride;
    Vector of_row = zero();
    each_vector(n, [&](int32_t i, int32_t count)
                       __attribute__((always_inline)) { of_row = Q6_V_vor_VV(of_row, magnitude(load_row(row + i, count))); });
    lanes[r] = of_row;
  }
  across_rows<Or>(lanes, rows, any);
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t down = most(fixed::width(any.of(r)) - 15, 0);
    const int32_t* row = x + r * stride;
    Vector low_sum = zero(), high_sum = zero();
    each_vector(n, [&](int32_t i, int32_t count) __attribute__((always_inline)) {
      const Vector q = Q6_Vw_vabs_Vw(clamp(round_down(load_row(row + i, count), down), 32767)), square = Q6_Vw_vmpyie_VwVuh(q, q);
      low_sum = Q6_Vw_vadd_VwVw(low_sum, Q6_V_vand_VV(square, splat(0xffff)));
      high_sum = Q6_Vw_vadd_VwVw(high_sum, Q6_Vuw_vlsr_VuwR(square, 16));
    });
    lanes[r] = low_sum;
    high[r] = high_sum;
  }
  across_rows<Add>(lanes, rows, low_sums);
  across_rows<Add>(high, rows, high_sums);
  const fixed::Scalar e = fixed::scalar(eps);
  uint64_t means[kMostRows];
  for (int32_t r = 0; r < rows; ++r) {
    const uint64_t squares = (uint64_t{uint32_t(high_sums.of(r))} << 16) + uint32_t(low_sums.of(r));
    uint64_t mean = n & (n - 1) ? (squares << 16) / uint32_t(n) : squares << 16 >> __builtin_ctz(uint32_t(n));
    const int32_t bits = fixed::width(any.of(r)), s = most(bits - 15, 0), up = e.exponent + 2 * fixed::kFraction + 16 - 2 * s;
    if (up >= 0) {
      mean += uint64_t(e.mantissa) << least(up, 38);
    } else if (up > -64) {
      mean += uint64_t(e.mantissa) >> -up;
    }
    const int32_t even = mean == 0 ? 0 : __builtin_clzll(mean) & ~1;
    means[r] = mean << even;
    roots.pairs[2 * r] = int32_t(means[r] >> 32);
    out[r] = {31 - bits, 0, s + 32 - bits - even / 2};
  }
  auto& vector = *reinterpret_cast<Vector*>(roots.pairs);
  vector = inverse_roots(vector);
  for (int32_t r = 0; r < rows; ++r) {
    if (means[r] == 0) {
      out[r] = {0, 0, 0};
      continue;
    }
    const uint32_t near = uint32_t(roots.of(r));
    const uint32_t inverse = quotient(int64_t{1} << 62, root(means[r], (means[r] >> 32) * near >> 30), near);
    out[r].mantissa = inverse > uint32_t{fixed::kMost} ? fixed::kMost : int32_t(inverse);
  }
}

// fixed::unit.
HVL_HVX Vector unit(Vector x, const fixed::InverseRms& inverse) {
  return round_down(mul31(Q6_Vw_vasl_VwR(x, inverse.lift), splat(inverse.mantissa)), inverse.shift);
}

// fixed::weighted. kLeft: where weights are so large that a shift may be to the left.
template <bool kLeft>
HVL_HVX Vector weighted(Vector unit, Vector words) {
  const Vector exponents = Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(words, 16), 16);
  const Vector n = Q6_Vw_vmin_VwVw(Q6_Vw_vsub_VwVw(splat(fixed::kUnitFraction - fixed::kFraction - 15), exponents), splat(31));
  const Vector product = mul15(unit, words);
  if constexpr (!kLeft) {
    return Q6_Vw_vadd_VwVw(Q6_Vw_vasr_VwVw(product, n), Q6_V_vand_VV(Q6_Vw_vasr_VwVw(product, Q6_Vw_vsub_VwVw(n, splat(1))), splat(1)));
  } else {
    const Vector right = Q6_Vw_vmax_VwVw(n, splat(1)),
                 left = Q6_Vw_vmin_VwVw(Q6_Vw_vmax_VwVw(Q6_Vw_vsub_VwVw(zero(), n), zero()), splat(31));
    const Vector rounded = Q6_V_vand_VV(Q6_Vw_vasr_VwVw(product, Q6_Vw_vsub_VwVw(right, splat(1))), splat(1));
    const Vector down = Q6_Vw_vadd_VwVw(Q6_Vw_vasr_VwVw(product, right), rounded);
    return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(n, zero()), down, shift_left(product, left));
  }
}

// Whether a word of n makes `weighted` shift to the left.
HVL_HVX bool any_left(const int32_t* words, int32_t n) {
  Vector largest = splat(-fixed::kMost);
  for (int32_t i = 0; i < n; i += kLanes) {
    const Vector exponents = Q6_Vw_vasl_VwR(load_row(words + i, n - i), 16);
    largest = Q6_Vw_vmax_VwVw(largest, n - i >= kLanes ? exponents : Q6_V_vmux_QVV(Q6_Q_vsetq_R(4 * (n - i)), exponents, largest));
  }
  return first_lane(across<Max>(largest)) >> 16 > fixed::kUnitFraction - fixed::kFraction - 15 - 1;
}

}  // namespace
}  // namespace hvl::hexagon

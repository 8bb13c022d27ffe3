// Rows of int32 in HVX: the operations of fixed.h on 32 lanes, rows of any length and alignment, and what is taken across lanes.
#pragma once

#include <hexagon_protos.h>
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stdint.h>

#include "kernels/common/fixed.h"

namespace hvl::hexagon {
namespace {

#define HVL_HVX __attribute__((always_inline)) inline

using Vector = HVX_Vector;
constexpr int32_t kLanes = 32, kVectorBytes = 128;

HVL_HVX Vector splat(int32_t x) { return Q6_V_vsplat_R(x); }
HVL_HVX Vector zero() { return Q6_V_vzero(); }
HVL_HVX int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
HVL_HVX int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

// The vector that holds the byte at `at`.
HVL_HVX Vector load_around(const void* at) {
  return *reinterpret_cast<const Vector*>(reinterpret_cast<uintptr_t>(at) & ~uintptr_t{kVectorBytes - 1});
}
HVL_HVX Vector load_unaligned(const void* at) { return *reinterpret_cast<const HVX_UVector*>(at); }
HVL_HVX void store_unaligned(void* at, Vector x) { *reinterpret_cast<HVX_UVector*>(at) = x; }

// 0 < n < 128 bytes from `at` on, of any alignment: nothing is read but vectors that hold some of them. Others are of any value.
HVL_HVX Vector load_bytes(const void* at, int32_t n) {
  return Q6_V_valign_VVR(load_around(static_cast<const uint8_t*>(at) + n - 1), load_around(at), int32_t(uintptr_t(at)));
}
HVL_HVX void store_bytes(void* at, int32_t n, Vector x) {
  const int32_t offset = int32_t(uintptr_t(at) & (kVectorBytes - 1)), end = offset + n;
  auto* to = reinterpret_cast<Vector*>(uintptr_t(at) - offset);
  const Vector turned = Q6_V_vror_VR(x, -offset);
  Q6_vmem_QRIV(Q6_Q_and_QQn(Q6_Q_vsetq2_R(least(end, kVectorBytes)), Q6_Q_vsetq_R(offset)), to, turned);
  if (end > kVectorBytes) Q6_vmem_QRIV(Q6_Q_vsetq_R(end - kVectorBytes), to + 1, turned);
}

// The first n >= 0 lanes of x, zeros beyond.
HVL_HVX Vector first_lanes(Vector x, int32_t n) { return n >= kLanes ? x : Q6_V_vand_QV(Q6_Q_vsetq_R(4 * n), x); }

// n > 0 int32 of which the first min(n, 32) are taken, zeros beyond.
HVL_HVX Vector load_row(const int32_t* x, int32_t n) { return n >= kLanes ? load_unaligned(x) : first_lanes(load_bytes(x, 4 * n), n); }
HVL_HVX void store_row(int32_t* x, int32_t n, Vector v) { n >= kLanes ? store_unaligned(x, v) : store_bytes(x, 4 * n, v); }

// f(i, lanes) for the vectors of a row of n: 32 lanes, which is known where f is inlined, and perhaps fewer at the end.
template <class F>
HVL_HVX void each_vector(int32_t n, const F& f) {
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, n - i);
}

// The odd half of every lane is what is multiplied by.
HVL_HVX Vector mul15(Vector a, Vector h) { return Q6_Vw_vmpyo_VwVh_s1_rnd_sat(a, h); }
HVL_HVX Vector mul31(Vector a, Vector b) { return Q6_Vw_vmpyoacc_VwVwVh_s1_rnd_sat_shift(Q6_Vw_vmpye_VwVuh(a, b), a, b); }

// fixed::shift_down for n >= 0.
HVL_HVX Vector shift_right(Vector a, Vector n) { return Q6_Vw_vasr_VwVw(a, Q6_Vw_vmin_VwVw(n, splat(31))); }

// a * 2^n, saturating, n in 0 .. 31.
HVL_HVX Vector shift_left(Vector a, Vector n) {
  const Vector shifted = Q6_Vw_vasl_VwVw(a, n), limit = Q6_V_vxor_VV(Q6_Vw_vasr_VwR(a, 31), splat(INT32_MAX));
  return Q6_V_vmux_QVV(Q6_Q_vcmp_eq_VwVw(Q6_Vw_vasr_VwVw(shifted, n), a), shifted, limit);
}

// fixed::shift_down for any n.
HVL_HVX Vector shift_down(Vector a, Vector n) {
  const Vector right = Q6_Vw_vmax_VwVw(n, zero()), left = Q6_Vw_vmin_VwVw(Q6_Vw_vmax_VwVw(Q6_Vw_vsub_VwVw(zero(), n), zero()), splat(31));
  return shift_left(shift_right(a, right), left);
}

// fixed::round_down for a shift that is one for all lanes.
HVL_HVX Vector round_down(Vector a, int32_t n) {
  if (n <= 0) return n == 0 ? a : shift_left(a, splat(least(-n, 31)));
  const int32_t s = least(n, 31);
  return Q6_Vw_vadd_VwVw(Q6_Vw_vasr_VwR(a, s), Q6_V_vand_VV(Q6_Vw_vasr_VwR(a, s - 1), splat(1)));
}

// The same for one known to be 2 to 31.
template <int kShift>
HVL_HVX Vector round_down(Vector a) {
  static_assert(2 <= kShift && kShift <= 31);
  return Q6_Vw_vasr_VwR(Q6_Vw_vadd_VwVw(Q6_Vw_vasr_VwR(a, kShift - 1), splat(1)), 1);
}

HVL_HVX Vector magnitude(Vector x) { return Q6_V_vxor_VV(x, Q6_Vw_vasr_VwR(x, 31)); }
HVL_HVX Vector clamp(Vector x, int32_t limit) { return Q6_Vw_vmax_VwVw(Q6_Vw_vmin_VwVw(x, splat(limit)), splat(-limit)); }

HVL_HVX int32_t first_lane(Vector x) { return Q6_R_vextract_VR(x, 0); }

// About 2^61 / t of each t in 2^30 .. 2^31 - 1, an even number that is 1 to some ten too small or large, 2^31 less 2 at most.
HVL_HVX Vector inverses(Vector t) {
  // In units of 2^-29: 48 / 17 - 32 / 17 t to begin with, of which each step doubles the bits.
  Vector y = Q6_Vw_vsub_VwVw(splat(1515870810), mul31(t, splat(1010580540)));
  for (int i = 0; i < 3; ++i) {
    const Vector missing = Q6_Vw_vsub_VwVw(splat(1 << 29), mul31(t, y));
    y = Q6_Vw_vadd_VwVw(y, mul31(y, Q6_Vw_vasl_VwR(missing, 2)));
  }
  return Q6_Vw_vasl_VwR(Q6_Vw_vmin_VwVw(y, splat((1 << 30) - 1)), 1);
}

// floor(n / d), of which `near` is not far away; n at most 2^62, d at least 2^30.
HVL_HVX uint32_t quotient(int64_t n, uint32_t d, uint32_t near) {
  uint32_t q = near;
  int64_t left = n - int64_t(uint64_t{d} * q);
  for (; left < 0; left += d) --q;
  for (; left >= d; left -= d) ++q;
  return q;
}

// How lanes are combined.
struct Add {
  HVL_HVX static Vector of(Vector a, Vector b) { return Q6_Vw_vadd_VwVw(a, b); }
};
struct Or {
  HVL_HVX static Vector of(Vector a, Vector b) { return Q6_V_vor_VV(a, b); }
};
struct Max {
  HVL_HVX static Vector of(Vector a, Vector b) { return Q6_Vw_vmax_VwVw(a, b); }
};

// All lanes combined, in every lane.
template <class Combine>
HVL_HVX Vector across(Vector x) {
#pragma unroll
  for (int32_t bytes = 64; bytes >= 4; bytes /= 2) x = Combine::of(x, Q6_V_vror_VR(x, bytes));
  return x;
}

// A number for each of up to 16 rows, in memory.
constexpr int32_t kMostRows = 16;
struct alignas(kVectorBytes) RowNumbers {
  int32_t pairs[2 * kMostRows];  // each twice
  int32_t of(int32_t row) const { return pairs[2 * row]; }
};

// Each row's lanes combined, by halving all rows at once. x is overwritten.
template <class Combine>
HVL_HVX void across_rows(Vector (&x)[kMostRows], int32_t rows, RowNumbers& out) {
  auto& to = *reinterpret_cast<Vector*>(out.pairs);
  if (rows == 1) {
    to = across<Combine>(x[0]);
    return;
  }
  for (int32_t r = rows; r < kMostRows; ++r) x[r] = zero();
  int32_t bytes = 64;
#pragma unroll
  for (int32_t n = 8; n >= 1; n /= 2, bytes /= 2) {
#pragma unroll
    for (int32_t i = 0; i < n; ++i) {
      const HVX_VectorPair parts = Q6_W_vshuff_VVR(x[i + n], x[i], bytes);
      x[i] = Combine::of(Q6_V_lo_W(parts), Q6_V_hi_W(parts));
    }
  }
  to = Combine::of(x[0], Q6_V_vror_VR(x[0], 4));
}

}  // namespace
}  // namespace hvl::hexagon

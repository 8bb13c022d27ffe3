// Requantisation of the VRC (vrc.h) on 32 channels.
#pragma once

#include "kernels/common/hexagon_words.h"
#include "kernels/vrc/vrc.h"

namespace hvl::hexagon {
namespace {

struct Requant {
  Vector bias, multiplier, shift;
};

// Of channels [c, c + n), n at most 32; lanes beyond hold a shift of 33.
HVL_HVX Requant load_requant(const VrcRequant& r, int32_t c, int32_t n) {
  const Vector beyond = n < kLanes ? Q6_V_vand_QnV(Q6_Q_vsetq_R(4 * n), splat(33)) : zero();
  return {load_row(r.bias + c, n), load_row(r.multiplier + c, n), Q6_V_vor_VV(load_row(r.shift + c, n), beyond)};
}

// Whether every shift is above 32, as those of all but odd scales are.
HVL_HVX bool shifts_are_high(Vector shifts) {
  return first_lane(across<Or>(Q6_Vw_vasr_VwR(Q6_Vw_vsub_VwVw(shifts, splat(33)), 31))) == 0;
}

// (dot + bias) * multiplier / 2^shift, rounded. kHigh: shifts are above 32.
template <bool kHigh>
HVL_HVX Vector requantise(Vector dot, const Requant& r) {
  const Vector x = Q6_Vw_vadd_VwVw(dot, r.bias);
  const HVX_VectorPair product = Q6_W_vmpyoacc_WVwVh(Q6_W_vmpye_VwVuh(x, r.multiplier), x, r.multiplier);
  const Vector low = Q6_V_lo_W(product), high = Q6_V_hi_W(product), one = splat(1);
  const Vector above = Q6_Vw_vsub_VwVw(r.shift, splat(33));
  const Vector quotient = Q6_Vw_vasr_VwVw(Q6_Vw_vasr_VwVw(high, above), one), half = Q6_V_vand_VV(Q6_Vw_vasr_VwVw(high, above), one);
  const Vector of_high = Q6_Vw_vadd_VwVw(quotient, half);
  if constexpr (kHigh) return of_high;
  const Vector before = Q6_Vw_vlsr_VwVw(low, Q6_Vw_vsub_VwVw(r.shift, one));  // shifts of 1 to 32
  const Vector part = Q6_V_vor_VV(Q6_Vw_vasl_VwVw(high, Q6_Vw_vsub_VwVw(splat(32), r.shift)), Q6_Vuw_vlsr_VuwR(before, 1));
  const Vector of_both = Q6_Vw_vadd_VwVw(part, Q6_V_vand_VV(before, one));
  return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(r.shift, splat(32)), of_high, of_both);
}

// 32 words limited to 0 .. 255, in the first 32 bytes.
HVL_HVX Vector to_bytes(Vector words) {
  const Vector halves = Q6_Vh_vpack_VwVw_sat(words, words);
  return Q6_Vub_vpack_VhVh_sat(halves, halves);
}

}  // namespace
}  // namespace hvl::hexagon

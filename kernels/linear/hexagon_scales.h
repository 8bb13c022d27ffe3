// Scales and zero points of packed weights as HVX wants them: 32 words a (row block, group), unpacked once for all tokens.
#pragma once

#include "kernels/common/fixed.h"
#include "kernels/linear/hexagon_dots_body.h"
#include "kernels/linear/linear.h"

namespace hvl::hexagon {
namespace {

// Where a scale is mantissa * 2^exponent (fixed.h), a lane of a scale word is the mantissa in the even half and in the odd one the exponent
// plus this, which is never negative: 29 for F16, 141 for F32.
inline int32_t exponent_bias(int32_t scale_bits) { return scale_bits == 16 ? 29 : 141; }

// 64 bytes from `at` on, a multiple of 64, in the lower half; they are in one vector.
inline Vector load_half(const uint8_t* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  return Q6_V_vror_VR(*reinterpret_cast<const Vector*>(address & ~uintptr_t{127}), int32_t(address & 64));
}
// 128 bytes from `at` on, a multiple of 64.
inline Vector load(const uint8_t* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  const auto* vectors = reinterpret_cast<const Vector*>(address & ~uintptr_t{127});
  return Q6_V_valign_VVR(vectors[address & 64 ? 1 : 0], vectors[0], int32_t(address & 64));
}

// The largest halfword of a vector.
inline int32_t largest_half(Vector v) {
  for (int32_t bytes = 64; bytes >= 2; bytes /= 2) v = Q6_Vuh_vmax_VuhVuh(v, Q6_V_vror_VR(v, bytes));
  return Q6_R_vextract_VR(v, 0) & 0xffff;
}

// Two groups of F16 scales in `halves` -> words of the first and of the second, and the biased exponents in `largest`.
inline HVX_VectorPair f16_words(Vector halves, Vector& largest) {
  halves = Q6_V_vand_VV(halves, Q6_V_vsplat_R(0x7fff7fff));
  // Subnormal numbers have the exponent of the least normal ones, and no bit before their fraction.
  const Vector exponents = Q6_Vuh_vlsr_VuhR(Q6_Vuh_vsub_VuhVuh_sat(halves, Q6_V_vsplat_R(0x04000400)), 10);
  const Vector mantissas = Q6_Vh_vaslacc_VhVhR(Q6_Vh_vasl_VhR(halves, 5), exponents, 15);
  largest = Q6_Vuh_vmax_VuhVuh(largest, exponents);
  return Q6_W_vshuff_VVR(exponents, mantissas, -2);
}

// One group of F32 scales -> words.
inline Vector f32_words(Vector bits, Vector& largest) {
  const Vector rounded = Q6_Vw_vadd_VwVw(Q6_V_vand_VV(bits, Q6_V_vsplat_R(0x7fffffff)), Q6_V_vsplat_R(128));
  const Vector exponents = Q6_Vuw_vlsr_VuwR(Q6_Vuw_vsub_VuwVuw_sat(rounded, Q6_V_vsplat_R(1 << 23)), 23);
  const Vector mantissas = Q6_Vw_vaslacc_VwVwR(Q6_Vuw_vlsr_VuwR(rounded, 8), exponents, 15);
  largest = Q6_Vuh_vmax_VuhVuh(largest, exponents);
  return Q6_Vh_vshuffe_VhVh(exponents, mantissas);
}

// Scale words of `groups` groups of kBlocks row blocks, the first at group[block], to words[kBlocks * group + block]. Returns the largest halfwords
// of biased exponents.
template <int kBlocks>
Vector unpack_scales(const LinearWeight& weight, const uint8_t* const (&group)[kBlocks], int32_t groups, Vector* words) {
  const int32_t bytes = int32_t(linear_group_bytes(weight));
  Vector largest = Q6_V_vzero();
  const auto at = [&](int b, int32_t g) __attribute__((always_inline)) { return group[b] + g * bytes; };
  if (weight.scale_bits == 32) {
    for (int32_t g = 0; g < groups; ++g, words += kBlocks) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) words[b] = f32_words(load(at(b, g)), largest);
    }
    return largest;
  }
  // Two groups at a time, of all blocks, so that their steps overlap.
  const HVX_VectorPred lower = Q6_Q_vsetq_R(64);
  for (int32_t g = 0; g < groups; g += 2, words += 2 * kBlocks) {
    const int32_t second = g + 1 < groups ? g + 1 : g;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const HVX_VectorPair both = f16_words(Q6_V_vmux_QVV(lower, load_half(at(b, g)), Q6_V_vror_VR(load_half(at(b, second)), 64)), largest);
      words[b] = Q6_V_lo_W(both);
      words[kBlocks + b] = Q6_V_hi_W(both);
    }
  }
  return largest;
}

// What kWeightOffset and the zero points add up to, in the even halves: 0 .. 255.
inline void unpack_offsets(const LinearWeight& weight, const uint8_t* group, int32_t groups, int32_t step, Vector* offsets) {
  const int32_t bytes = int32_t(linear_group_bytes(weight)), at = int32_t(linear_scale_bytes(weight));
  const Vector weight_offset = Q6_V_vsplat_R(weight.bits == 4 ? kWeightOffset<4> : kWeightOffset<8>);
  for (int32_t g = 0; g < groups; ++g, group += bytes, offsets += step) {
    *offsets = weight.zero_points ? Q6_Vw_vadd_VwVw(Q6_V_lo_W(Q6_Ww_vunpack_Vh(load_half(group + at))), weight_offset) : weight_offset;
  }
}

}  // namespace
}  // namespace hvl::hexagon

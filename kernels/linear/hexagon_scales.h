// Scales and zero points of a (row block, group) of packed weights as HVX wants them: 32 words.
#pragma once

#include "kernels/linear/hexagon_dots_body.h"

namespace hvl::hexagon {
namespace {

// Where a scale is mantissa * 2^exponent (fixed.h), what is added to the exponent here, so that it is never negative.
template <bool kF16>
inline constexpr int32_t kExponentBias = kF16 ? 29 : 141;

// 64 bytes from `at` on, a multiple of 64, in the lower half; they are in one vector.
HVL_HVX Vector load_half(const uint8_t* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  return Q6_V_vror_VR(*reinterpret_cast<const Vector*>(address & ~uintptr_t{127}), int32_t(address & 64));
}
// 128 bytes from `at` on, a multiple of 64.
HVL_HVX Vector load_whole(const uint8_t* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  const auto* vectors = reinterpret_cast<const Vector*>(address & ~uintptr_t{127});
  return Q6_V_valign_VVR(vectors[address & 64 ? 1 : 0], vectors[0], int32_t(address & 64));
}

// Where a group's header of 64 bytes lies, whose values are there.
constexpr Place header_place(Place values) {
  return values == Place::kHalf ? Place::kVector : values == Place::kVector ? Place::kHalf : Place::kAnywhere;
}

// The scales of a row block's group, in words.
struct Scales {
  Vector mantissas;  // in the even halves; the odd ones are anything
  Vector exponents;  // biased
};

// 32 halfwords from `at` on, which is kPlace, as words.
template <Place kPlace>
HVL_HVX Vector words_of_halves(const uint8_t* at) {
  if constexpr (kPlace == Place::kVector) return Q6_V_lo_W(Q6_Wuw_vunpack_Vuh(load<true>(at)));
  if constexpr (kPlace == Place::kHalf) return Q6_V_hi_W(Q6_Wuw_vunpack_Vuh(load<true>(at - 64)));
  return Q6_V_lo_W(Q6_Wuw_vunpack_Vuh(load_half(at)));
}

// at: of 32 scales.
template <bool kF16, Place kPlace>
HVL_HVX Scales scales_at(const uint8_t* at) {
  // Subnormal numbers have the exponent of the least normal ones, and no bit before their fraction.
  if constexpr (kF16) {
    const Vector bits = Q6_V_vand_VV(words_of_halves<kPlace>(at), Q6_V_vsplat_R(0x7fff));
    const Vector exponents = Q6_Vuw_vlsr_VuwR(Q6_Vuw_vsub_VuwVuw_sat(bits, Q6_V_vsplat_R(1 << 10)), 10);
    return {Q6_Vw_vaslacc_VwVwR(Q6_Vw_vasl_VwR(bits, 5), exponents, 15), exponents};
  } else {
    const Vector rounded = Q6_Vw_vadd_VwVw(Q6_V_vand_VV(load_whole(at), Q6_V_vsplat_R(0x7fffffff)), Q6_V_vsplat_R(128));
    const Vector exponents = Q6_Vuw_vlsr_VuwR(Q6_Vuw_vsub_VuwVuw_sat(rounded, Q6_V_vsplat_R(1 << 23)), 23);
    return {Q6_Vw_vaslacc_VwVwR(Q6_Vuw_vlsr_VuwR(rounded, 8), exponents, 15), exponents};
  }
}

// Scales of nothing, at any place.
alignas(128) constexpr uint8_t kNoScales[256] = {};

// The largest word of each vector.
template <int kCount>
HVL_HVX void largest_words(const Vector (&of)[kCount], int32_t (&largest)[kCount]) {
  Vector v[kCount];
  for (int i = 0; i < kCount; ++i) v[i] = of[i];
#pragma unroll
  for (int32_t bytes = 64; bytes >= 4; bytes /= 2) {
    for (Vector& words : v) words = Q6_Vw_vmax_VwVw(words, Q6_V_vror_VR(words, bytes));
  }
  for (int i = 0; i < kCount; ++i) largest[i] = Q6_R_vextract_VR(v[i], 0);
}

// What the weights' offset and the zero points, 32 of them from `at` on, add up to, in the even halves of words: 0 .. 255.
template <int kBits>
HVL_HVX Vector offsets_at(const uint8_t* at) {
  return Q6_Vw_vadd_VwVw(Q6_V_lo_W(Q6_Ww_vunpack_Vh(load_half(at))), Q6_V_vsplat_R(1 << kOffsetBits<kBits>));
}

}  // namespace
}  // namespace hvl::hexagon

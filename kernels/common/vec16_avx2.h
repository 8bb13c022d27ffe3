// Sixteen float lanes in two AVX2 registers (with FMA and F16C). What each function means: vec16_reference.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define HVL_VEC static inline __attribute__((always_inline))

namespace hvl::vec16_avx2 {

struct Vec16 {
  __m256 lo;  // lanes 0..7
  __m256 hi;  // lanes 8..15
};

#define HVL_UNROLL _Pragma("GCC unroll 32")
inline constexpr int kRows = 4;
inline constexpr int kWide = 1;  // four rows of one vector fill eight of the sixteen registers
inline constexpr int kWideFewRows = 2;

HVL_VEC Vec16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HVL_VEC Vec16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
HVL_VEC Vec16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }

HVL_VEC void store(float* p, Vec16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}

struct Mask {
  __m256i lo;
  __m256i hi;
};

HVL_VEC Mask mask_n(int n) {
  const __m256i count = _mm256_set1_epi32(n);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_cmpgt_epi32(count, lane), _mm256_cmpgt_epi32(count, _mm256_add_epi32(lane, _mm256_set1_epi32(8)))};
}

HVL_VEC Vec16 load_n(const float* p, int n) {
  const Mask m = mask_n(n);
  return {_mm256_maskload_ps(p, m.lo), _mm256_maskload_ps(p + 8, m.hi)};
}

HVL_VEC void store_n(float* p, Vec16 x, int n) {
  const Mask m = mask_n(n);
  _mm256_maskstore_ps(p, m.lo, x.lo);
  _mm256_maskstore_ps(p + 8, m.hi, x.hi);
}

HVL_VEC Vec16 add(Vec16 a, Vec16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
HVL_VEC Vec16 sub(Vec16 a, Vec16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
HVL_VEC Vec16 mul(Vec16 a, Vec16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
HVL_VEC Vec16 div(Vec16 a, Vec16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
HVL_VEC Vec16 max(Vec16 a, Vec16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
HVL_VEC Vec16 min(Vec16 a, Vec16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }

HVL_VEC Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

HVL_VEC Vec16 fms(Vec16 a, Vec16 b, Vec16 c) {
  return {_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}

HVL_VEC Vec16 abs(Vec16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

HVL_VEC Vec16 copysign(Vec16 magnitude, Vec16 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  const Vec16 m = abs(magnitude);
  return {_mm256_or_ps(m.lo, _mm256_and_ps(bit, sign.lo)), _mm256_or_ps(m.hi, _mm256_and_ps(bit, sign.hi))};
}

HVL_VEC Vec16 first_n(Vec16 a, int n, Vec16 fill) {
  const Mask m = mask_n(n);
  return {_mm256_blendv_ps(fill.lo, a.lo, _mm256_castsi256_ps(m.lo)), _mm256_blendv_ps(fill.hi, a.hi, _mm256_castsi256_ps(m.hi))};
}

HVL_VEC Vec16 zip(__m256 a, __m256 b) {
  const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);  // a0 b0 a1 b1 a4 b4 a5 b5, a2 b2 a3 b3 a6 b6 a7 b7
  return {_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
HVL_VEC Vec16 zip_low(Vec16 a, Vec16 b) { return zip(a.lo, b.lo); }
HVL_VEC Vec16 zip_high(Vec16 a, Vec16 b) { return zip(a.hi, b.hi); }

HVL_VEC __m256 scale_exp2(__m256 p, __m256 n) {
  const __m256i k = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(k, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

HVL_VEC Vec16 scale_exp2(Vec16 p, Vec16 n) { return {scale_exp2(p.lo, n.lo), scale_exp2(p.hi, n.hi)}; }

HVL_VEC float merge_add(Vec16 a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

HVL_VEC float merge_max(Vec16 a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

HVL_VEC float scalar_sqrt(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

HVL_VEC Vec16 load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}

HVL_VEC void store_half(uint16_t* p, Vec16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}

// AVX2 has no masked 16-bit loads and stores: through a buffer.
HVL_VEC Vec16 load_half_n(const uint16_t* p, int n) {
  alignas(32) uint16_t lane[16] = {};
  for (int i = 0; i < n; ++i) lane[i] = p[i];
  return load_half(lane);
}

HVL_VEC void store_half_n(uint16_t* p, Vec16 x, int n) {
  alignas(32) uint16_t lane[16];
  store_half(lane, x);
  for (int i = 0; i < n; ++i) p[i] = lane[i];
}

}  // namespace hvl::vec16_avx2

namespace hvl {
namespace vec = vec16_avx2;
}

// Sixteen float or int32 lanes in two AVX2 registers (with FMA). What each function means: vec16_reference.h.
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

struct Ints {
  __m256i lo;
  __m256i hi;
};

inline constexpr bool kByteDots = false;

HVL_VEC Ints ints_set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
HVL_VEC Ints ints_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

HVL_VEC Ints ints_load(const void* p) {
  return {_mm256_loadu_si256(static_cast<const __m256i*>(p)), _mm256_loadu_si256(static_cast<const __m256i*>(p) + 1)};
}

HVL_VEC void ints_store(void* p, Ints x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x.lo);
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, x.hi);
}

HVL_VEC Ints ints_broadcast(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return ints_set1(x);
}

HVL_VEC Ints ints_and(Ints a, Ints b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
HVL_VEC Ints ints_or(Ints a, Ints b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
HVL_VEC Ints ints_xor(Ints a, Ints b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
HVL_VEC Ints ints_max(Ints a, Ints b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }

HVL_VEC int32_t ints_merge_max(Ints a) {
  const __m256i eight = _mm256_max_epi32(a.lo, a.hi);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}

HVL_VEC Ints float_bits(Vec16 x) { return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
HVL_VEC Vec16 to_float(Ints x) { return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
HVL_VEC Ints round_to_ints(Vec16 x) { return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; }

// Low words of sixteen lanes in order; no saturation.
HVL_VEC __m256i low_words(Ints x) {
  const __m256i mask = _mm256_set1_epi32(0xffff);
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(x.lo, mask), _mm256_and_si256(x.hi, mask)), 0 | 2 << 2 | 1 << 4 | 3 << 6);
}

HVL_VEC void store_bytes(void* p, Ints x) {
  const __m256i words = _mm256_and_si256(low_words(x), _mm256_set1_epi16(0xff));
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(static_cast<__m128i*>(p), bytes);
}

HVL_VEC void store_words(void* p, Ints x) { _mm256_storeu_si256(static_cast<__m256i*>(p), low_words(x)); }

HVL_VEC void store_words_0213(void* p, Ints x) {
  constexpr int kOrder = 0 | 2 << 2 | 1 << 4 | 3 << 6;
  const __m256i words = _mm256_shufflelo_epi16(low_words(x), kOrder);
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_shufflehi_epi16(words, kOrder));
}

HVL_VEC __m256i join_words(__m256i a, __m256i b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }
HVL_VEC Ints join_words(Ints a, Ints b) { return {join_words(a.lo, b.lo), join_words(a.hi, b.hi)}; }

HVL_VEC __m256i join_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i even = join_words(a, c), odd = _mm256_slli_epi16(join_words(b, d), 8);
  return _mm256_blendv_epi8(odd, even, _mm256_set1_epi16(0xff));
}

HVL_VEC Ints join_bytes(Ints a, Ints b, Ints c, Ints d) {
  return {join_bytes(a.lo, b.lo, c.lo, d.lo), join_bytes(a.hi, b.hi, c.hi, d.hi)};
}

HVL_VEC Ints even_bytes(Ints a) {
  return {_mm256_srai_epi16(_mm256_slli_epi16(a.lo, 8), 8), _mm256_srai_epi16(_mm256_slli_epi16(a.hi, 8), 8)};
}

HVL_VEC Ints odd_bytes(Ints a) { return {_mm256_srai_epi16(a.lo, 8), _mm256_srai_epi16(a.hi, 8)}; }

HVL_VEC Ints dot_words(Ints sum, Ints a, Ints b) {
  return {_mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.lo, b.lo)), _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.hi, b.hi))};
}

// vpmaddubsw saturates: through words.
HVL_VEC Ints dot_bytes(Ints sum, Ints a, Ints b) {
  const Ints bytes = ints_set1(0x00ff00ff);
  const Ints odd = {_mm256_srli_epi16(a.lo, 8), _mm256_srli_epi16(a.hi, 8)};
  return dot_words(dot_words(sum, ints_and(a, bytes), even_bytes(b)), odd, odd_bytes(b));
}

}  // namespace hvl::vec16_avx2

#ifndef HVL_VEC16_BASE  // of another header, which names its own
namespace hvl {
namespace vec = vec16_avx2;
}
#endif

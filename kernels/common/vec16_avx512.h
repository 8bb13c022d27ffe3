// Sixteen float or int32 lanes in one AVX-512 register (with VNNI). What each function means: vec16_reference.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

// g++ 12's own headers leave the pass-through operand of unmasked intrinsics undefined, and it warns of that wherever they are inlined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#define HVL_VEC static inline __attribute__((always_inline))

namespace hvl::vec16_avx512 {

struct Vec16 {
  __m512 v;
};

#define HVL_UNROLL _Pragma("GCC unroll 32")
inline constexpr int kRows = 4;
inline constexpr int kWide = 4;  // four rows of four vectors: sixteen accumulators, eight loads for sixteen fma
inline constexpr int kWideFewRows = 8;

HVL_VEC Vec16 set1(float x) { return {_mm512_set1_ps(x)}; }
HVL_VEC Vec16 zero() { return {_mm512_setzero_ps()}; }
HVL_VEC Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
HVL_VEC void store(float* p, Vec16 x) { _mm512_storeu_ps(p, x.v); }

HVL_VEC __mmask16 mask_n(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

HVL_VEC Vec16 load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(mask_n(n), p)}; }
HVL_VEC void store_n(float* p, Vec16 x, int n) { _mm512_mask_storeu_ps(p, mask_n(n), x.v); }

HVL_VEC Vec16 add(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
HVL_VEC Vec16 sub(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
HVL_VEC Vec16 mul(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
HVL_VEC Vec16 div(Vec16 a, Vec16 b) { return {_mm512_div_ps(a.v, b.v)}; }
HVL_VEC Vec16 max(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }
HVL_VEC Vec16 min(Vec16 a, Vec16 b) { return {_mm512_min_ps(a.v, b.v)}; }
HVL_VEC Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
HVL_VEC Vec16 fms(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }
HVL_VEC Vec16 abs(Vec16 a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }

HVL_VEC Vec16 copysign(Vec16 magnitude, Vec16 sign) {
  return {_mm512_or_ps(abs(magnitude).v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};
}

HVL_VEC Vec16 first_n(Vec16 a, int n, Vec16 fill) { return {_mm512_mask_mov_ps(fill.v, mask_n(n), a.v)}; }

HVL_VEC Vec16 zip_low(Vec16 a, Vec16 b) {
  const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  return {_mm512_permutex2var_ps(a.v, order, b.v)};
}
HVL_VEC Vec16 zip_high(Vec16 a, Vec16 b) {
  const __m512i order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return {_mm512_permutex2var_ps(a.v, order, b.v)};
}

HVL_VEC Vec16 scale_exp2(Vec16 p, Vec16 n) { return {_mm512_scalef_ps(p.v, n.v)}; }

HVL_VEC float merge_add(Vec16 a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

HVL_VEC float merge_max(Vec16 a) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

HVL_VEC float scalar_sqrt(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

struct Ints {
  __m512i v;
};

inline constexpr bool kByteDots = true;

HVL_VEC Ints ints_set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
HVL_VEC Ints ints_zero() { return {_mm512_setzero_si512()}; }
HVL_VEC Ints ints_load(const void* p) { return {_mm512_loadu_si512(p)}; }
HVL_VEC void ints_store(void* p, Ints x) { _mm512_storeu_si512(p, x.v); }

HVL_VEC Ints ints_broadcast(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return ints_set1(x);
}

HVL_VEC Ints ints_and(Ints a, Ints b) { return {_mm512_and_si512(a.v, b.v)}; }
HVL_VEC Ints ints_or(Ints a, Ints b) { return {_mm512_or_si512(a.v, b.v)}; }
HVL_VEC Ints ints_xor(Ints a, Ints b) { return {_mm512_xor_si512(a.v, b.v)}; }
HVL_VEC Ints ints_max(Ints a, Ints b) { return {_mm512_max_epi32(a.v, b.v)}; }
HVL_VEC int32_t ints_merge_max(Ints a) { return _mm512_reduce_max_epi32(a.v); }

HVL_VEC Ints float_bits(Vec16 x) { return {_mm512_castps_si512(x.v)}; }
HVL_VEC Vec16 to_float(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
HVL_VEC Ints round_to_ints(Vec16 x) { return {_mm512_cvtps_epi32(x.v)}; }

HVL_VEC void store_bytes(void* p, Ints x) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v)); }
HVL_VEC void store_words(void* p, Ints x) { _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v)); }

HVL_VEC void store_words_0213(void* p, Ints x) {
  constexpr int kOrder = 0 | 2 << 2 | 1 << 4 | 3 << 6;
  const __m256i words = _mm256_shufflelo_epi16(_mm512_cvtepi32_epi16(x.v), kOrder);
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_shufflehi_epi16(words, kOrder));
}

HVL_VEC Ints join_words(Ints a, Ints b) { return {_mm512_mask_blend_epi16(0xaaaaaaaau, a.v, _mm512_slli_epi32(b.v, 16))}; }

HVL_VEC Ints join_bytes(Ints a, Ints b, Ints c, Ints d) {
  const __m512i even = join_words(a, c).v, odd = join_words(b, d).v;
  return {_mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaau, even, _mm512_slli_epi16(odd, 8))};
}

HVL_VEC Ints even_bytes(Ints a) { return {_mm512_srai_epi16(_mm512_slli_epi16(a.v, 8), 8)}; }
HVL_VEC Ints odd_bytes(Ints a) { return {_mm512_srai_epi16(a.v, 8)}; }

HVL_VEC Ints dot_words(Ints sum, Ints a, Ints b) { return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)}; }
HVL_VEC Ints dot_bytes(Ints sum, Ints a, Ints b) { return {_mm512_dpbusd_epi32(sum.v, a.v, b.v)}; }

}  // namespace hvl::vec16_avx512

namespace hvl {
namespace vec = vec16_avx512;
}

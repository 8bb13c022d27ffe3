// What byte_dots.h needs of 256-bit registers, apart from the dot product: 8 output rows a register.
#pragma once

#include <immintrin.h>

#include "kernels/linear/byte_dots.h"

namespace hvl {
namespace {

struct Simd256 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kLanes = 8, kBytes = 32;

  HVL_INLINE static Int zero() { return _mm256_setzero_si256(); }
  HVL_INLINE static Int set_int(int32_t v) { return _mm256_set1_epi32(v); }
  HVL_INLINE static Int broadcast4(const uint8_t* p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
  }
  HVL_INLINE static Int low_nibbles(Int v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  HVL_INLINE static Int high_nibbles(Int v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
  HVL_INLINE static Int flip(Int v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
  HVL_INLINE static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  HVL_INLINE static Int times256(Int v) { return _mm256_slli_epi32(v, 8); }
  HVL_INLINE static Int minus_product(Int a, Int b, Int c) { return _mm256_sub_epi32(a, _mm256_mullo_epi32(b, c)); }
  HVL_INLINE static Int shorts(const uint8_t* p, int v) { return _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p) + v)); }
  HVL_INLINE static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
  HVL_INLINE static Float set(float v) { return _mm256_set1_ps(v); }
  HVL_INLINE static Float halves(const uint8_t* p, int v) { return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p) + v)); }
  HVL_INLINE static Float floats(const float* p) { return _mm256_loadu_ps(p); }
  HVL_INLINE static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  HVL_INLINE static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  HVL_INLINE static Float sum(Float a, Float b) { return _mm256_add_ps(a, b); }
  HVL_INLINE static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
};

}  // namespace
}  // namespace hvl

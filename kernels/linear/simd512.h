// What byte_dots.h needs of 512-bit registers with VNNI: 16 output rows a register, 4 values of K a lane, vpdpbusd.
#pragma once

#include <immintrin.h>

#include "kernels/linear/byte_dots.h"

// gcc 12 takes the deliberately undefined registers inside its own AVX-512 intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace hvl {
namespace {

template <int kXPlanes>
struct Avx512Vnni {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kPlanes = kXPlanes;
  static constexpr bool kOffset = true, kBothNibbles = false;
  static constexpr int kLanes = 16, kBytes = 64, kVectors = 2, kRows = 32;
  static constexpr int kMaxStreams = 12;  // x 2 registers of rows = 24 accumulators of 32 registers

  HVL_INLINE static Int zero() { return _mm512_setzero_si512(); }
  HVL_INLINE static Int load(const uint8_t* p) { return _mm512_load_si512(p); }
  HVL_INLINE static Int set_int(int32_t v) { return _mm512_set1_epi32(v); }
  HVL_INLINE static Int broadcast(const uint8_t* p, int64_t) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
  }
  HVL_INLINE static Int low_nibbles(Int v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
  HVL_INLINE static Int high_nibbles(Int v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
  HVL_INLINE static Int flip(Int v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
  HVL_INLINE static Int dot(Int sum, Int of_unsigned, Int of_signed) { return _mm512_dpbusd_epi32(sum, of_unsigned, of_signed); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) { return sums[v]; }
  HVL_INLINE static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  HVL_INLINE static Int times256(Int v) { return _mm512_slli_epi32(v, 8); }
  HVL_INLINE static Int minus_product(Int a, Int b, Int c) { return _mm512_sub_epi32(a, _mm512_mullo_epi32(b, c)); }
  HVL_INLINE static Int shorts(const uint8_t* p, int v) { return _mm512_cvtepi16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(p) + v)); }
  HVL_INLINE static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
  HVL_INLINE static Float set(float v) { return _mm512_set1_ps(v); }
  HVL_INLINE static Float halves(const uint8_t* p, int v) { return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p) + v)); }
  HVL_INLINE static Float floats(const float* p) { return _mm512_loadu_ps(p); }
  HVL_INLINE static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  HVL_INLINE static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  HVL_INLINE static Float sum(Float a, Float b) { return _mm512_add_ps(a, b); }
  HVL_INLINE static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
};

}  // namespace
}  // namespace hvl

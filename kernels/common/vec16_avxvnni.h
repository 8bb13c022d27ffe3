// Sixteen lanes in two AVX2 registers, with the dot products of AVX-VNNI. What each function means: vec16_reference.h.
#pragma once

#define HVL_VEC16_BASE
#include "kernels/common/vec16_avx2.h"

namespace hvl::vec16_avxvnni {

// What is declared here hides what is only used from there.
using namespace vec16_avx2;

inline constexpr int kRows = 6;  // fill twelve registers: byte dots need none between
inline constexpr bool kByteDots = true;

HVL_VEC Ints dot_words(Ints sum, Ints a, Ints b) {
  return {_mm256_dpwssd_avx_epi32(sum.lo, a.lo, b.lo), _mm256_dpwssd_avx_epi32(sum.hi, a.hi, b.hi)};
}

HVL_VEC Ints dot_bytes(Ints sum, Ints a, Ints b) {
  return {_mm256_dpbusd_avx_epi32(sum.lo, a.lo, b.lo), _mm256_dpbusd_avx_epi32(sum.hi, a.hi, b.hi)};
}

}  // namespace hvl::vec16_avxvnni

namespace hvl {
namespace vec = vec16_avxvnni;
}

// Groups with intrinsics: the compiler's version of the plain loops reaches a third of their speed. Clamping is left out, as it
// would change nothing: |x| <= m, so |x * (limit / m)| is at most limit * (1 + 2^-23), which rounds to limit.
#include <immintrin.h>

#include "kernels/quantize/quantize_body.h"

// gcc 12 takes the deliberately undefined registers inside its own AVX-512 intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace hvl {
namespace {

inline __mmask16 first_lanes(int32_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : __mmask16((1u << n) - 1); }

struct Avx512Group {
  static int32_t max_magnitude_bits(const float* x, int32_t n) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i top = _mm512_setzero_si512();
    for (int32_t i = 0; i < n; i += 16) {
      top = _mm512_max_epi32(top, _mm512_and_si512(_mm512_maskz_loadu_epi32(first_lanes(n - i), x + i), magnitude));
    }
    return _mm512_reduce_max_epi32(top);
  }

  static void store(const float* x, int32_t n, float inverse, float, int32_t group_size, int32_t bits, uint8_t* first, uint8_t* low,
                    int32_t* sums) {
    if (inverse == 0.0f) n = 0;
    if (bits == 8) return store_planes<8>(x, n, inverse, group_size, first, low, sums);
    store_planes<16>(x, n, inverse, group_size, first, low, sums);
  }

 private:
  template <int kBits>
  static void store_planes(const float* x, int32_t n, float inverse, int32_t group_size, uint8_t* first, uint8_t* low, int32_t* sums) {
    const __m512 factor = _mm512_set1_ps(inverse);
    __m512i sum = _mm512_setzero_si512(), sum_high = _mm512_setzero_si512();
    for (int32_t i = 0; i < group_size; i += 16) {
      const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(first_lanes(n - i), x + i), factor));
      const __m512i high = kBits == 16 ? _mm512_srai_epi32(v, 8) : v;
      sum = _mm512_add_epi32(sum, v);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(first + i), _mm512_cvtepi32_epi8(high));
      if constexpr (kBits == 16) {
        sum_high = _mm512_add_epi32(sum_high, high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(low + i), _mm512_cvtepi32_epi8(v));
      }
    }
    sums[0] = _mm512_reduce_add_epi32(sum);
    sums[1] = kBits == 16 ? _mm512_reduce_add_epi32(sum_high) : sums[0];
  }
};

}  // namespace

void quantize_avx512vnni(const QuantizeArgs& args, int32_t begin, int32_t end) noexcept { quantize_rows<Avx512Group>(args, begin, end); }

void quantize_i16_avx512vnni(const QuantizeI16Args& args, int32_t begin, int32_t end) noexcept { quantize_rows_i16(args, begin, end); }

}  // namespace hvl

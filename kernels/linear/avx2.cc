// AVX2: 8 output rows a register, half a row block a pass.
//
// W4: vpmaddubsw on v = w + 8 in 0..15, whose pair sums fit 16 bits (hi: 2 * 15 * 128, lo: 2 * 255 * 15), then vpmaddwd,
// which also multiplies the high plane by 256.
// W8: pair sums of bytes would saturate, so both sides are widened to 16 bits, which A16 already has, and multiplied by vpmaddwd.
#include "kernels/linear/byte_dots.h"
#include "kernels/linear/simd256.h"

namespace hvl {
namespace {

template <int kXPlanes>
struct Avx2Nibbles : Simd256 {
  static constexpr int kPlanes = kXPlanes;
  static constexpr bool kOffset = true, kBothNibbles = true;
  static constexpr int kVectors = 2, kRows = 16;
  static constexpr int kMaxStreams = 4 * kXPlanes;  // x 2 registers of rows = 8 sums; products, x, weights and constants take the others

  HVL_INLINE static Int load(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  HVL_INLINE static Int broadcast(const uint8_t* p, int64_t) { return broadcast4(p); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) { return sums[v]; }
  // The pairs of both products fit 16 bits together too.
  template <int kUnit>
  HVL_INLINE static Int two_dots(Int sum, Int unsigned1, Int signed1, Int unsigned2, Int signed2) {
    const Int pairs = _mm256_add_epi16(_mm256_maddubs_epi16(unsigned1, signed1), _mm256_maddubs_epi16(unsigned2, signed2));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(kUnit)));
  }
};

// Four values of K are four int16 of x; a register of sums has two lanes a row, for the first two and the last two values of K.
template <int kXPlanes>
struct Avx2Bytes : Simd256 {
  static constexpr int kPlanes = 1;  // after they are put together
  static constexpr bool kOffset = false, kBothNibbles = false;
  static constexpr int kVectors = 4, kRows = 16;
  static constexpr int kBytes = 16;      // of weights a register, before they are widened
  static constexpr int kMaxStreams = 2;  // x 4 registers of sums

  HVL_INLINE static Int load(const uint8_t* p) { return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(p))); }
  HVL_INLINE static Int flip(Int v) { return v; }  // signed on both sides
  HVL_INLINE static Int broadcast(const uint8_t* p, int64_t plane) {
    if constexpr (kXPlanes == 2) return _mm256_unpacklo_epi8(broadcast4(p + plane), broadcast4(p));
    return _mm256_cvtepi8_epi16(_mm256_castsi256_si128(broadcast4(p)));
  }
  HVL_INLINE static Int dot(Int sum, Int weights, Int x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(weights, x)); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) {
    // hadd leaves rows 0 1 4 5 | 2 3 6 7
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[2 * v], sums[2 * v + 1]), _MM_SHUFFLE(3, 1, 2, 0));
  }
};

}  // namespace

void linear_avx2(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<Avx2Nibbles, Avx2Bytes>(args, begin, end); }

}  // namespace hvl

// AVX-VNNI (processors with the dot products of VNNI but without AVX-512): 8 output rows a register, 4 values of K a lane, vpdpbusd.
#include "kernels/linear/byte_dots.h"
#include "kernels/linear/simd256.h"

namespace hvl {
namespace {

template <int kXPlanes>
struct AvxVnni : Simd256 {
  static constexpr int kPlanes = kXPlanes;
  static constexpr bool kOffset = true, kBothNibbles = false;
  static constexpr int kVectors = 2, kRows = 16;
  static constexpr int kMaxStreams = 6;  // x 2 registers of rows = 12 accumulators; two of weights, x and a constant take the others

  HVL_INLINE static Int load(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  HVL_INLINE static Int broadcast(const uint8_t* p, int64_t) { return broadcast4(p); }
  HVL_INLINE static Int dot(Int sum, Int of_unsigned, Int of_signed) { return _mm256_dpbusd_avx_epi32(sum, of_unsigned, of_signed); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) { return sums[v]; }
};

}  // namespace

void linear_avxvnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<AvxVnni, AvxVnni>(args, begin, end); }

}  // namespace hvl

// AVX-VNNI (processors with the dot products of VNNI but without AVX-512): 8 output rows a register, 4 values of K a lane, vpdpbusd.
#include "kernels/linear/byte_dots.h"
#include "kernels/linear/simd256.h"

namespace hvl {
namespace {

template <int kXPlanes, int kRegisters, int kStreams>
struct AvxVnni : Simd256 {
  static constexpr int kPlanes = kXPlanes;
  static constexpr bool kOffset = true, kBothNibbles = false;
  static constexpr int kVectors = kRegisters, kRows = 8 * kRegisters, kMaxStreams = kStreams;

  HVL_INLINE static Int load(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  HVL_INLINE static Int broadcast(const uint8_t* p, int64_t) { return broadcast4(p); }
  HVL_INLINE static Int dot(Int sum, Int of_unsigned, Int of_signed) { return _mm256_dpbusd_avx_epi32(sum, of_unsigned, of_signed); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) { return sums[v]; }
};

// x 2 registers of rows = 12 accumulators; two of weights, x and a constant take the others.
template <int kXPlanes>
using Many = AvxVnni<kXPlanes, 2, 6>;
// One token: all rows of a block at once, so that more sums are under way than one token has with half of them.
template <int kXPlanes>
using One = AvxVnni<kXPlanes, 4, kXPlanes>;

}  // namespace

void linear_avxvnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.x.rows == 1) return run_linear<One, One>(args, begin, end);
  run_linear<Many, Many>(args, begin, end);
}

}  // namespace hvl

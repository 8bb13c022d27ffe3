// AVX-VNNI (AVX-512 VNNI's vpdpbusd for processors without AVX-512): 8 output rows a register, half a row block a pass.
#include "kernels/linear/byte_dots.h"
#include "kernels/linear/simd256.h"

namespace hvl {
namespace {

struct AvxVnni : Simd256, ByteWords {
  static constexpr int kVectors = 2, kRows = 16;
  static constexpr int kMaxStreams = 6;  // x 2 registers of rows = 12 accumulators of 16 registers

  HVL_INLINE static Int load(const uint8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  HVL_INLINE static Int broadcast(const uint8_t* p) { return broadcast4(p); }
  HVL_INLINE static Int row_sums(const Int* sums, int v) { return sums[v]; }
#ifdef __AVXVNNI__
  HVL_INLINE static Int dot(Int sum, Int of_unsigned, Int of_signed) { return _mm256_dpbusd_avx_epi32(sum, of_unsigned, of_signed); }
#else  // the same instruction as AVX-512 encodes it: for tests of this file on processors that have only that
  HVL_INLINE static Int dot(Int sum, Int of_unsigned, Int of_signed) { return _mm256_dpbusd_epi32(sum, of_unsigned, of_signed); }
#endif
};

}  // namespace

#ifdef __AVXVNNI__
void linear_avxvnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<AvxVnni>(args, begin, end); }
#else
void linear_avxvnni_evex(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<AvxVnni>(args, begin, end); }
#endif

}  // namespace hvl

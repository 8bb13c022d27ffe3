// What the AMX paths of linear share: the tiles' configuration, a group's factors, and lines of out asked for ahead.
#pragma once

#include <immintrin.h>

#include "kernels/linear/simd512.h"

namespace hvl {
namespace {

constexpr int32_t kTileTokens = 16, kTileSums = kTileTokens * kLinearRowBlock;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  // Tiles of dots come first, then those of x, of `tokens` lines each; the others hold weights.
  TileConfig(int32_t dots, int32_t of_tokens, int32_t tokens, int32_t along_k) {
    for (int tile = 0; tile < 8; ++tile) {
      rows[tile] = uint8_t(tile < of_tokens ? tokens : along_k / 4);
      row_bytes[tile] = uint16_t(tile >= dots && tile < of_tokens ? along_k : 64);
    }
  }

  // All of it as an operand: gcc 12's intrinsic names the first 8 bytes only, so that stores to the others could go.
  void load() const { asm volatile("ldtilecfg %0" : : "m"(*this)); }
};

// A group's scales and zero points of 32 rows.
struct RowFactors {
  __m512 scales[2];
  __m512i zero_points[2];
};

HVL_INLINE inline RowFactors row_factors(const LinearWeight& weight, const uint8_t* group) {
  RowFactors f = {};
  for (int half = 0; half < 2; ++half) {
    f.scales[half] = weight.scale_bits == 16 ? Avx512Vnni<1>::halves(group, half) : _mm512_loadu_ps(reinterpret_cast<const float*>(group) + 16 * half);
    if (weight.zero_points) f.zero_points[half] = Avx512Vnni<1>::shorts(group + linear_scale_bytes(weight), half);
  }
  return f;
}

// Lines of out that the row block after this one writes, asked for a few at a time.
class OutAhead {
 public:
  OutAhead(const LinearArgs& args, int32_t block, bool wanted, int32_t token0, int32_t tokens, int32_t times)
      : at_(args.out + token0 * args.out_stride + block * kLinearRowBlock), stride_(args.out_stride), left_(wanted ? tokens : 0),
        a_time_((tokens + times - 1) / times) {}

  HVL_INLINE void some() {
    for (int32_t i = 0; i < a_time_ && left_ > 0; ++i, --left_, at_ += stride_) {
      __builtin_prefetch(at_, 1);
      __builtin_prefetch(at_ + 16, 1);
    }
  }

 private:
  const float* at_;
  int64_t stride_;
  int32_t left_, a_time_;
};

}  // namespace
}  // namespace hvl

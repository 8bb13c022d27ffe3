// AMX-INT8: 16 tokens by 16 output rows a tile, up to 64 values of K an instruction. Both sides may be signed, so weights go in as they are
// (nibbles widened to bytes once a tile of tokens), and the exact sums of a group are stored, scaled and added with AVX-512.
// With few tokens a tile would be mostly empty, and the weights' bandwidth is the limit anyway: AVX-512 VNNI does those.
//
// Tiles: 2 i + j: sums of stream i (A8: 16 tokens; A16: a plane of the same 16) and rows 16 j .. 16 j + 15;  4 + i: x;  6 + j: weights.
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/linear/linear.h"

#ifdef HVL_AMX_EMULATED  // for tests of this file on processors without AMX
#include "kernels/linear/amx_emulated.h"
#define linear_amx linear_amx_emulated
#endif

// gcc 12 takes the deliberately undefined registers inside its own AVX-512 intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace hvl {

void linear_avx512vnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept;

namespace {

constexpr int32_t kTile = 16;       // tokens, and rows of weights
constexpr int32_t kFewTokens = 8;
constexpr int32_t kMaxGroup = 128;

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// gcc 12's AMX intrinsics do not tell the compiler which memory they read.
inline void memory_barrier() { asm volatile("" ::: "memory"); }

// first, second: rows of x of the two streams, 1 .. 16. k_bytes: values of K an instruction, 32 or 64.
void configure(int32_t first, int32_t second, int32_t k_bytes) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool weights = tile >= 6;
    const int stream = tile < 4 ? tile / 2 : tile - 4;
    config.rows[tile] = uint8_t(weights ? k_bytes / 4 : stream == 0 ? first : second);
    config.row_bytes[tile] = uint16_t(tile < 4 || weights ? 64 : k_bytes);
  }
  memory_barrier();
  _tile_loadconfig(&config);
}

// One group of 32 rows of 4-bit weights as signed bytes, in the order of 8-bit weights.
inline void widen(const uint8_t* w, int32_t group_size, uint8_t* out) {
  const __m512i nibbles = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(8);
  for (int32_t k = 0; k < group_size; k += 8, w += 128, out += 256) {
    for (int32_t half = 0; half < 128; half += 64) {
      const __m512i v = _mm512_load_si512(w + half);
      _mm512_store_si512(out + half, _mm512_sub_epi8(_mm512_and_si512(v, nibbles), offset));
      _mm512_store_si512(out + 128 + half, _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), nibbles), offset));
    }
  }
}

// Exact sums of one group: dots (4 tiles, 16 tokens, 16 rows). x0, x1: where the streams' group starts.
template <int kXBits>
inline void group_dots(const uint8_t* w, const uint8_t* x0, const uint8_t* x1, int64_t row_bytes, int32_t group_size, int32_t k_bytes,
                       int32_t* dots) {
  memory_barrier();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int32_t k = 0; k < group_size; k += k_bytes) {
    _tile_loadd(6, w + 32 * k, 128);
    _tile_loadd(7, w + 32 * k + 64, 128);
    _tile_loadd(4, x0 + k, row_bytes);
    _tile_loadd(5, x1 + k, row_bytes);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    if constexpr (kXBits == 16) {
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_stored(0, dots, 64);
  _tile_stored(1, dots + kTile * kTile, 64);
  _tile_stored(2, dots + 2 * kTile * kTile, 64);
  _tile_stored(3, dots + 3 * kTile * kTile, 64);
  memory_barrier();
}

inline __m512 load_scales(const LinearWeight& weight, const uint8_t* scales, int half) {
  if (weight.scale_bits == 16) return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(scales) + half));
  return _mm512_load_ps(reinterpret_cast<const float*>(scales) + kTile * half);
}

// One row block for `tokens` tokens from token0 on: at most 32 (A8) or 16 (A16).
template <int kXBits>
void tile(const LinearArgs& args, int32_t block, int32_t token0, int32_t tokens, int32_t k_bytes) {
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight), group_size = weight.group_size;
  const int64_t plane = int64_t(groups) * group_size, row_bytes = plane * (kXBits / 8);
  // With at most 16 tokens of A8 the second stream repeats the first.
  const int64_t second = kXBits == 16 ? plane : tokens > kTile ? kTile * row_bytes : 0;
  const uint8_t* x = args.x.q + token0 * row_bytes;
  const uint8_t* group = weight.data + size_t(block) * linear_block_bytes(weight);
  alignas(64) uint8_t wide[kLinearRowBlock * kMaxGroup];
  alignas(64) int32_t dots[4 * kTile * kTile];
  alignas(64) float acc[2 * kTile][kLinearRowBlock] = {};
  for (int32_t g = 0; g < groups; ++g, group += linear_group_bytes(weight), x += group_size) {
    const uint8_t* w = group + 4 * weight.scale_bits;
    if (weight.bits == 4) widen(w, group_size, wide);
    group_dots<kXBits>(weight.bits == 4 ? wide : w, x, x + second, row_bytes, group_size, k_bytes, dots);
    for (int half = 0; half < 2; ++half) {
      const __m512 scale_w = load_scales(weight, group, half);
      for (int32_t t = 0; t < tokens; ++t) {
        const int32_t* from = dots + (2 * (t / kTile) + half) * kTile * kTile + t % kTile * kTile;
        __m512i dot = _mm512_load_si512(from);
        if constexpr (kXBits == 16) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(from + 2 * kTile * kTile));
        const __m512 scale = _mm512_mul_ps(scale_w, _mm512_set1_ps(args.x.scales[int64_t(token0 + t) * groups + g]));
        float* to = acc[t] + kTile * half;
        _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, _mm512_load_ps(to)));
      }
    }
  }
  const int32_t row0 = block * kLinearRowBlock, left = weight.rows - row0;
  for (int32_t t = 0; t < tokens; ++t) {
    for (int32_t first = 0; first < kLinearRowBlock && first < left; first += kTile) {
      const __mmask16 mask = left - first >= kTile ? 0xffff : __mmask16((1u << (left - first)) - 1);
      const int64_t at = int64_t(token0 + t) * args.out_stride + row0 + first;
      __m512 y = _mm512_load_ps(acc[t] + first);
      if (args.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, args.bias + row0 + first));
      if (args.residual) y = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, args.residual + at), y);
      _mm512_mask_storeu_ps(args.out + at, mask, y);
    }
  }
}

template <int kXBits>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int32_t kTokens = kXBits == 16 ? kTile : 2 * kTile;
  const int32_t tokens = args.x.rows, k_bytes = args.weight.group_size < 64 ? args.weight.group_size : 64;
  const int32_t full = tokens / kTokens * kTokens;
  if (full > 0) {
    configure(kTile, kTile, k_bytes);
    for (int32_t b = begin; b < end; ++b) {
      for (int32_t token = 0; token < full; token += kTokens) tile<kXBits>(args, b, token, kTokens, k_bytes);
    }
  }
  if (const int32_t left = tokens - full; left > 0) {
    const int32_t first = left < kTile ? left : kTile;
    configure(first, kXBits == 16 || left <= kTile ? first : left - kTile, k_bytes);
    for (int32_t b = begin; b < end; ++b) tile<kXBits>(args, b, full, left, k_bytes);
  }
  _tile_release();
}

}  // namespace

void linear_amx(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.x.rows <= kFewTokens) return linear_avx512vnni(args, begin, end);
  if (args.x.bits == 16) return run<16>(args, begin, end);
  run<8>(args, begin, end);
}

}  // namespace hvl

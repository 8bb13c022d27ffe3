// AVX-512 VNNI: 16 output rows a register, 4 values of K a lane, vpdpbusd (u8 x s8, accumulated in int32).
//
// vpdpbusd wants one unsigned and one signed side, so weights go in with an offset that the sums of x take out again:
//   W4: v = w + 8 in 0..15 is both a u8 and an s8.  A8:  sum v x;  A16: 256 * sum v hi + sum lo v;  then - 8 * sum x.
//   W8: v = w + 128 is a u8.                        A8:  sum v x - 128 * sum x;
//                                                   A16: 256 * (sum v hi - 128 * sum hi) + sum lo w.
// Products of four stay below 2^18, so nothing saturates, and wrapping int32 sums end at the exact dot.

// gcc 12 takes the deliberately undefined registers inside its own AVX-512 intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>
#include <string.h>

#include "kernels/linear/linear.h"

namespace hvl {
namespace {

constexpr int kMaxTokensA16 = 6;  // 6 tokens x 2 registers of rows x 2 planes = 24 accumulators of 32 registers
constexpr int kMaxTokensA8 = 8;

// One row block of one call, the same for all token tiles.
struct Block {
  const uint8_t* data;
  int32_t row0;
  int32_t rows;  // 1 .. 32, the rest is padding
  int32_t groups;
  int32_t group_size;
  int32_t group_bytes;
  int32_t vectors;      // 128-byte vectors a group
  int32_t padded_cols;  // bytes of one plane of x
};

template <int kValue>
struct Index {
  static constexpr int value = kValue;
  constexpr operator int() const { return kValue; }
};

// f(Index<0>) .. f(Index<n - 1>), unrolled while parsing: arrays of registers indexed in f become registers at once. In a plain
// loop gcc unrolls too late for that and stores every accumulator in every step.
template <int kCount, typename F>
__attribute__((always_inline)) inline void unroll(const F& f) {
  if constexpr (kCount > 0) {
    unroll<kCount - 1>(f);
    f(Index<kCount - 1>{});
  }
}
#define HVL_INLINE __attribute__((always_inline))

// gcc 12 merges the values an accumulator has before, in and after the loop into one variable and then moves all of them, through
// memory too, in every step. Without that pass the loop is dot products, broadcasts and loads, and 1.5 to 2 times as fast.
#if defined(__GNUC__) && !defined(__clang__)
#define HVL_HOT_LOOP __attribute__((optimize("no-tree-coalesce-vars")))
#else
#define HVL_HOT_LOOP
#endif

inline __m512i broadcast4(const uint8_t* p) {
  int32_t word;
  memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}

// Lanes 16 * half + (0 .. 15) of a vector of 32 scales.
template <int kScaleBits>
inline __m512 load_scales(const uint8_t* p, int half) {
  if constexpr (kScaleBits == 16) {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p) + half));
  } else {
    return _mm512_load_ps(reinterpret_cast<const float*>(p) + 16 * half);
  }
}

// What the low (or only) accumulator starts at: the offset of the weights, taken out beforehand.
template <int kWeightBits, int kXBits>
inline int32_t offset_correction(const int32_t* sums) {
  if constexpr (kWeightBits == 4) return -8 * sums[0];
  if constexpr (kXBits == 8) return -128 * sums[0];
  return -(128 * 256) * sums[1];
}

// What stays the same from one group to the next of a tile.
struct TileX {
  int64_t row_bytes;  // from one token's planes to the next's
  int64_t plane;      // from `hi` to `lo`
  int64_t groups;     // from one token's scales (and pairs of sums) to the next's
  int32_t vectors;    // 128-byte vectors of weights a group
};

// Adds one group to acc (kTokens, 2 halves of 16 rows).
template <int kWeightBits, int kXBits, int kScaleBits, int kTokens>
__attribute__((always_inline)) inline void add_group(const TileX& tile, const uint8_t* w, const uint8_t* x, const float* scale_x,
                                                     const int32_t* sums, __m512* acc) {
  // Few tokens: the weights come from memory at full speed, and the processor's own prefetch stops at page ends.
  constexpr bool kPrefetch = kTokens <= 3;
  constexpr int kPrefetchBytes = 4096;
  const __m512i nibbles = _mm512_set1_epi8(15), flip = _mm512_set1_epi8(-128);
  const uint8_t* scales = w;
  w += 4 * kScaleBits;
  __m512i low[kTokens][2], high[kTokens][2];
  unroll<kTokens>([&](auto t) HVL_INLINE {
    low[t][0] = low[t][1] = _mm512_set1_epi32(offset_correction<kWeightBits, kXBits>(sums + t * tile.groups * 2));
    high[t][0] = high[t][1] = _mm512_setzero_si512();
  });
  int32_t left = tile.vectors;  // at least 4
  do {
    if constexpr (kPrefetch) {
      _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchBytes), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchBytes + 64), _MM_HINT_T0);
    }
    unroll<8 / kWeightBits>([&](auto part) HVL_INLINE {
      __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
      if constexpr (kWeightBits == 4) {
        w0 = _mm512_and_si512(part ? _mm512_srli_epi16(w0, 4) : w0, nibbles);
        w1 = _mm512_and_si512(part ? _mm512_srli_epi16(w1, 4) : w1, nibbles);
      }
      const uint8_t* xp = x + part * 4;
      if constexpr (kXBits == 16) {  // the weights as the signed side
        unroll<kTokens>([&](auto t) HVL_INLINE {
          const __m512i low_x = broadcast4(xp + t * tile.row_bytes + tile.plane);
          low[t][0] = _mm512_dpbusd_epi32(low[t][0], low_x, w0);
          low[t][1] = _mm512_dpbusd_epi32(low[t][1], low_x, w1);
        });
      }
      if constexpr (kWeightBits == 8) {
        w0 = _mm512_xor_si512(w0, flip);
        w1 = _mm512_xor_si512(w1, flip);
      }
      unroll<kTokens>([&](auto t) HVL_INLINE {
        const __m512i signed_x = broadcast4(xp + t * tile.row_bytes);
        if constexpr (kXBits == 16) {
          high[t][0] = _mm512_dpbusd_epi32(high[t][0], w0, signed_x);
          high[t][1] = _mm512_dpbusd_epi32(high[t][1], w1, signed_x);
        } else {
          low[t][0] = _mm512_dpbusd_epi32(low[t][0], w0, signed_x);
          low[t][1] = _mm512_dpbusd_epi32(low[t][1], w1, signed_x);
        }
      });
    });
    w += 128;
    x += 32 / kWeightBits;
  } while (--left > 0);
  unroll<2>([&](auto half) HVL_INLINE {
    const __m512 scale_w = load_scales<kScaleBits>(scales, half);
    unroll<kTokens>([&](auto t) HVL_INLINE {
      __m512i dot = low[t][half];
      if constexpr (kXBits == 16) dot = _mm512_add_epi32(_mm512_slli_epi32(high[t][half], 8), dot);
      const __m512 scale = _mm512_mul_ps(scale_w, _mm512_set1_ps(scale_x[t * tile.groups]));
      acc[2 * t + half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, acc[2 * t + half]);
    });
  });
}

// Not inlined, so that the 24 accumulators of a full tile have the registers to themselves.
template <int kWeightBits, int kXBits, int kScaleBits, int kTokens>
__attribute__((noinline)) HVL_HOT_LOOP void add_group_call(const TileX& tile, const uint8_t* w, const uint8_t* x, const float* scale_x,
                                              const int32_t* sums, __m512* acc) {
  add_group<kWeightBits, kXBits, kScaleBits, kTokens>(tile, w, x, scale_x, sums, acc);
}

template <int kWeightBits, int kXBits, int kScaleBits, int kTokens>
HVL_HOT_LOOP void tile(const LinearArgs& args, const Block& block, int32_t token0) {
  constexpr bool kInline = kTokens <= 3;
  const TileX tile = {int64_t(block.padded_cols) * (kXBits / 8), block.padded_cols, block.groups, block.vectors};
  const uint8_t* x = args.x.q + token0 * tile.row_bytes;
  const float* scale_x = args.x.scales + token0 * tile.groups;
  const int32_t* sums = args.x.sums + token0 * tile.groups * 2;
  const uint8_t* w = block.data;
  __m512 acc[2 * kTokens];
  for (__m512& a : acc) a = _mm512_setzero_ps();
  for (int32_t g = 0; g < block.groups; ++g, w += block.group_bytes, x += block.group_size) {
    if constexpr (kInline) {
      add_group<kWeightBits, kXBits, kScaleBits, kTokens>(tile, w, x, scale_x + g, sums + 2 * g, acc);
    } else {
      add_group_call<kWeightBits, kXBits, kScaleBits, kTokens>(tile, w, x, scale_x + g, sums + 2 * g, acc);
    }
  }
  for (int half = 0; half < 2; ++half) {
    const int32_t first = 16 * half;
    if (block.rows <= first) break;
    const __mmask16 mask = block.rows - first >= 16 ? 0xffff : __mmask16((1u << (block.rows - first)) - 1);
    const int32_t row = block.row0 + first;
    for (int t = 0; t < kTokens; ++t) {
      const int64_t at = int64_t(token0 + t) * args.out_stride + row;
      __m512 y = acc[2 * t + half];
      if (args.bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, args.bias + row));
      if (args.residual) y = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, args.residual + at), y);
      _mm512_mask_storeu_ps(args.out + at, mask, y);
    }
  }
}

template <int kWeightBits, int kXBits, int kScaleBits>
void tile_of(int tokens, const LinearArgs& args, const Block& block, int32_t token0) {
  switch (tokens) {
    case 1: return tile<kWeightBits, kXBits, kScaleBits, 1>(args, block, token0);
    case 2: return tile<kWeightBits, kXBits, kScaleBits, 2>(args, block, token0);
    case 3: return tile<kWeightBits, kXBits, kScaleBits, 3>(args, block, token0);
    case 4: return tile<kWeightBits, kXBits, kScaleBits, 4>(args, block, token0);
    case 5: return tile<kWeightBits, kXBits, kScaleBits, 5>(args, block, token0);
    case 6: return tile<kWeightBits, kXBits, kScaleBits, 6>(args, block, token0);
    default: break;
  }
  if constexpr (kXBits == 8) {
    if (tokens == 7) return tile<kWeightBits, kXBits, kScaleBits, 7>(args, block, token0);
    return tile<kWeightBits, kXBits, kScaleBits, 8>(args, block, token0);
  }
}

template <int kWeightBits, int kXBits, int kScaleBits>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int kMaxTokens = kXBits == 16 ? kMaxTokensA16 : kMaxTokensA8;
  const LinearWeight& weight = args.weight;
  const size_t block_bytes = linear_block_bytes(weight);
  const int32_t groups = linear_groups(weight), tokens = args.x.rows;
  const int32_t tiles = (tokens + kMaxTokens - 1) / kMaxTokens;
  for (int32_t b = begin; b < end; ++b) {
    const int32_t left = weight.rows - b * kLinearRowBlock, rows = left < kLinearRowBlock ? left : kLinearRowBlock;
    const Block block = {.data = weight.data + size_t(b) * block_bytes,
                         .row0 = b * kLinearRowBlock,
                         .rows = rows,
                         .groups = groups,
                         .group_size = weight.group_size,
                         .group_bytes = int32_t(linear_group_bytes(weight)),
                         .vectors = weight.group_size * weight.bits / 32,
                         .padded_cols = groups * weight.group_size};
    // Tiles as equal as they can be: a last tile of one token would cost as many weight loads as a full one.
    for (int32_t i = 0, token = 0; i < tiles; ++i) {
      const int32_t next = int32_t(int64_t(tokens) * (i + 1) / tiles);
      tile_of<kWeightBits, kXBits, kScaleBits>(next - token, args, block, token);
      token = next;
    }
  }
}

template <int kWeightBits, int kXBits>
void run_scales(const LinearArgs& args, int32_t begin, int32_t end) {
  if (args.weight.scale_bits == 16) return run<kWeightBits, kXBits, 16>(args, begin, end);
  run<kWeightBits, kXBits, 32>(args, begin, end);
}

}  // namespace

void linear_avx512vnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run_scales<4, 16>(args, begin, end);
    return run_scales<4, 8>(args, begin, end);
  }
  if (args.x.bits == 16) return run_scales<8, 16>(args, begin, end);
  run_scales<8, 8>(args, begin, end);
}

}  // namespace hvl

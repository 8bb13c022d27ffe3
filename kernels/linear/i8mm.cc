// i8mm: dots of 2 tokens x 2 rows x 8 values of K an instruction (smmla, usmmla), twice as many as sdot makes. One token goes the way of
// dotprod (neon_dots.h): half of each product would be thrown away.
//
// A register of x holds 8 values of two tokens, a register of weights 8 values of two rows: those lie 4 by 4 in the packed layout and are
// zipped, as are a group's x, once for all 32 rows. usmmla takes `lo` unsigned and weights signed: no offset but the nibbles'.
#include "kernels/linear/neon_dots.h"

namespace hvl {
namespace {

constexpr int32_t kPassRows = 8;  // four pairs of rows by four streams of two tokens: 16 sums

// A group's x as pairs of tokens: (pairs, k / 8, planes) registers of 8 values of two tokens each.
template <int kPlanes, int kPairs>
HVL_INLINE inline void pair_up(const Layout& layout, const TileOfX& tile, int32_t tokens, uint8_t* out) {
  for (int pair = 0; pair < kPairs; ++pair) {
    const int32_t second = 2 * pair + 1 < tokens ? 2 * pair + 1 : tokens - 1;  // of an odd number: the last twice
    const uint8_t *a = tile.q + 2 * pair * layout.row_bytes, *b = tile.q + second * layout.row_bytes;
    for (int32_t k = 0; k < layout.group_size; k += 16, out += 32 * kPlanes) {
      for (int p = 0; p < kPlanes; ++p) {
        const uint64x2_t first = vreinterpretq_u64_u8(vld1q_u8(a + k + p * layout.plane)), next = vreinterpretq_u64_u8(vld1q_u8(b + k + p * layout.plane));
        vst1q_u8(out + 16 * p, vreinterpretq_u8_u64(vzip1q_u64(first, next)));
        vst1q_u8(out + 16 * (kPlanes + p), vreinterpretq_u8_u64(vzip2q_u64(first, next)));
      }
    }
  }
}

// Two registers of four values of K for four rows each, the second's values following: pairs of rows with eight values.
HVL_INLINE inline int8x16_t first_rows(int8x16_t a, int8x16_t b) { return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b))); }
HVL_INLINE inline int8x16_t last_rows(int8x16_t a, int8x16_t b) { return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b))); }

// Adds one group of rows [row0, row0 + 8) to acc (2 * kPairs, 32). x: what pair_up left.
template <int kWeightBits, int kPlanes, int kPairs>
HVL_HOT_LOOP void add_pairs(const Layout& layout, int32_t row0, const uint8_t* w, const TileOfX& tile, int32_t tokens, const uint8_t* x, float* acc) {
  constexpr int kLast = kPlanes - 1;
  static_assert(kPlanes * kPairs * kPassRows / 2 <= kSums);
  const int64_t groups = layout.groups, pair_bytes = 2 * int64_t(layout.group_size) * kPlanes;
  const auto token_of = [&](int t) HVL_INLINE { return int64_t(t < tokens ? t : tokens - 1); };
  int32x4_t sums[kPlanes][kPairs][4];  // each: token 0 with rows 0, 1, then token 1 with them
  unroll<kPairs>([&](auto pair) HVL_INLINE {
    int32x4_t start = vdupq_n_s32(0);
    if constexpr (kWeightBits == 4) {
      start = vcombine_s32(vdup_n_s32(-8 * tile.sums[2 * pair * groups * 2]), vdup_n_s32(-8 * tile.sums[token_of(2 * pair + 1) * groups * 2]));
    }
    unroll<4>([&](auto r) HVL_INLINE {
      if constexpr (kPlanes == 2) sums[0][pair][r] = vdupq_n_s32(0);
      sums[kLast][pair][r] = start;
    });
  });
  const uint8_t* wp = w + layout.header_bytes + 4 * row0;
  for (int32_t left = layout.group_size; left > 0; left -= 8, x += 16 * kPlanes, wp += 32 * kWeightBits) {
    int8x16_t rows[4];
    unroll<2>([&](auto q) HVL_INLINE {
      const uint8x16_t loaded = vld1q_u8(wp + 16 * q);
      int8x16_t a, b;
      if constexpr (kWeightBits == 4) {
        a = low_nibbles(loaded);
        b = high_nibbles(loaded);
      } else {
        a = vreinterpretq_s8_u8(loaded);
        b = vreinterpretq_s8_u8(vld1q_u8(wp + 128 + 16 * q));
      }
      rows[2 * q] = first_rows(a, b);
      rows[2 * q + 1] = last_rows(a, b);
    });
    unroll<kPairs>([&](auto pair) HVL_INLINE {
      const uint8x16_t first = vld1q_u8(x + pair * pair_bytes);
      unroll<4>([&](auto r) HVL_INLINE { sums[0][pair][r] = vmmlaq_s32(sums[0][pair][r], vreinterpretq_s8_u8(first), rows[r]); });
      if constexpr (kPlanes == 2) {
        const uint8x16_t low = vld1q_u8(x + pair * pair_bytes + 16);
        unroll<4>([&](auto r) HVL_INLINE { sums[1][pair][r] = vusmmlaq_s32(sums[1][pair][r], low, rows[r]); });
      }
    });
  }
  unroll<2>([&](auto q) HVL_INLINE {
    const RowFactors factors = row_factors(layout, w, row0 + 4 * q);
    unroll<kPairs>([&](auto pair) HVL_INLINE {
      int64x2_t dots[2];
      unroll<2>([&](auto i) HVL_INLINE {
        int32x4_t dot = sums[kLast][pair][2 * q + i];
        if constexpr (kPlanes == 2) dot = vaddq_s32(dot, vshlq_n_s32(sums[0][pair][2 * q + i], 8));
        dots[i] = vreinterpretq_s64_s32(dot);
      });
      unroll<2>([&](auto second) HVL_INLINE {
        const int t = 2 * pair + second;
        const int64_t at = token_of(t) * groups;
        const int32x4_t dot = vreinterpretq_s32_s64(second ? vzip2q_s64(dots[0], dots[1]) : vzip1q_s64(dots[0], dots[1]));
        add_scaled(dot, factors, layout.zero_points, tile.scales[at], tile.sums[2 * at], acc + kLinearRowBlock * t + row0 + 4 * q);
      });
    });
  });
}

template <int kWeightBits, int kPlanes, int kPairs = kMaxStreams / 2 / kPlanes>
void add_block_pairs(const Layout& layout, const uint8_t* w, const TileOfX& tile, int32_t tokens, float* acc) {
  if constexpr (kPairs > 1) {
    if (tokens <= 2 * (kPairs - 1)) return add_block_pairs<kWeightBits, kPlanes, kPairs - 1>(layout, w, tile, tokens, acc);
  }
  alignas(64) uint8_t x[kPairs * kPlanes * 2 * kMostGroup];
  for (int32_t g = 0; g < layout.groups; ++g, w += layout.group_bytes) {
    const TileOfX part = tile.at(layout, g);
    pair_up<kPlanes, kPairs>(layout, part, tokens, x);
    for (int32_t row0 = 0; row0 < kLinearRowBlock; row0 += kPassRows) {
      add_pairs<kWeightBits, kPlanes, kPairs>(layout, row0, w, part, tokens, x, acc);
    }
  }
}

struct PairDots {
  template <int kWeightBits, int kPlanes>
  static void block(const Layout& layout, const uint8_t* w, const TileOfX& tile, int32_t tokens, float* acc) {
    if (tokens == 1) return add_block<kWeightBits, kPlanes, 1>(layout, w, tile, 1, acc);
    add_block_pairs<kWeightBits, kPlanes>(layout, w, tile, tokens, acc);
  }
};

}  // namespace

void linear_i8mm(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<PairDots>(args, begin, end); }

}  // namespace hvl

// The Arm bodies of linear: 4 output rows a register, 4 values of K a lane (sdot, udot), x taken by lane of a register of 16 values.
// Included by neondot.cc and i8mm.cc; static or in an anonymous namespace, so that no weak symbol appears.
//
// Unlike x86's (byte_dots.h), these dots take two signed or two unsigned sides, so that most need no offset:
//   W4: v = w + 8 in 0..15 is both s8 and u8.  A8: sum v x;  A16: 256 * sum v hi + sum v lo;  then - 8 * sum x.
//   W8: A8: sum w x;  A16: 256 * sum w hi + sum (w + 128) lo - 128 * sum lo, where sum lo = sum x - 256 * sum hi.
// Sums wrap in int32 and end at the exact dot.
//
// Order of the work, for a range of row blocks, as in byte_dots.h: sets of row blocks that stay in the L2 cache; tiles of tokens; row blocks;
// groups; within a group, passes over as many rows as leave the sums of all planes ("streams" of x) in 16 of the 32 registers, or fewer: 32
// rows for one or two streams (decode: sums enough that none waits for the one before), 8 rows for eight of them (nibbles and loads of
// weights are shared by many dots). Registers: 16 sums, 8 of x, 4 of weights.
//
// Not measured on a machine: developed under emulation.
#pragma once

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "kernels/linear/linear.h"

namespace hvl {
namespace {

#define HVL_INLINE __attribute__((always_inline))
// As in byte_dots.h: gcc 12 otherwise moves accumulators in every step.
#if defined(__GNUC__) && !defined(__clang__)
#define HVL_HOT_LOOP __attribute__((noinline, optimize("no-tree-coalesce-vars")))
#else
#define HVL_HOT_LOOP __attribute__((noinline))
#endif

constexpr int64_t kSetBytes = 256 << 10;  // of weights: half of a phone core's L2 cache
constexpr int kMaxStreams = 8;
constexpr int kSums = 16;  // registers of sums

template <int kValue>
struct Index {
  static constexpr int value = kValue;
  constexpr operator int() const { return kValue; }
};

// f(Index<0>) .. f(Index<n - 1>), unrolled while parsing: lanes are constants, arrays of registers become registers.
template <int kCount, typename F>
HVL_INLINE inline void unroll(const F& f) {
  if constexpr (kCount > 0) {
    unroll<kCount - 1>(f);
    f(Index<kCount - 1>{});
  }
}

// What is the same for all tiles and row blocks of a call.
struct Layout {
  int32_t groups;
  int32_t group_size;
  int32_t scale_bits;   // of the weights' scales
  bool zero_points;
  int64_t header_bytes, group_bytes;  // of a row block's group
  int64_t row_bytes;    // from one token's planes to the next's
  int64_t plane;        // from `hi` to `lo`
};

// x of the tile's first token, from some group on.
struct TileOfX {
  const uint8_t* q;
  const float* scales;
  const int32_t* sums;
  TileOfX at(const Layout& layout, int32_t group) const { return {q + int64_t(group) * layout.group_size, scales + group, sums + 2 * group}; }
};

HVL_INLINE inline int8x16_t low_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))); }
HVL_INLINE inline int8x16_t high_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vshrq_n_u8(v, 4)); }

// The scales and zero points of four rows of a group.
struct RowFactors {
  float32x4_t scale;
  int32x4_t zero_point;
};

HVL_INLINE inline RowFactors row_factors(const Layout& layout, const uint8_t* group, int32_t row) {
  RowFactors f;
  if (layout.scale_bits == 16) {
    f.scale = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(group + 2 * row)));
  } else {
    f.scale = vreinterpretq_f32_u8(vld1q_u8(group + 4 * row));
  }
  f.zero_point = vdupq_n_s32(0);
  if (layout.zero_points) f.zero_point = vmovl_s16(vreinterpret_s16_u8(vld1_u8(group + 4 * layout.scale_bits + 2 * row)));
  return f;
}

// One group's dots of a token and four rows, scaled, onto acc. group_sum: the group's sum of x.
HVL_INLINE inline void add_scaled(int32x4_t dot, const RowFactors& f, bool zero_points, float scale_x, int32_t group_sum, float* acc) {
  if (zero_points) dot = vmlsq_s32(dot, f.zero_point, vdupq_n_s32(group_sum));
  vst1q_f32(acc, vfmaq_f32(vld1q_f32(acc), vcvtq_f32_s32(dot), vmulq_f32(f.scale, vdupq_n_f32(scale_x))));
}

constexpr int quads_for(int streams) { return streams <= 2 ? 8 : streams <= 4 ? 4 : 2; }

// Adds `count` groups of rows [row0, row0 + 4 * quads_for(streams)) of a row block to acc (kTokens, 32). w: the first of the groups.
template <int kWeightBits, int kPlanes, int kTokens>
HVL_HOT_LOOP void add_groups(const Layout& layout, int32_t row0, int32_t count, const uint8_t* w, TileOfX tile, float* acc) {
  constexpr int kQuads = quads_for(kTokens * kPlanes), kLast = kPlanes - 1;
  static_assert(kTokens * kPlanes * kQuads <= kSums);
  const int64_t row_bytes = layout.row_bytes, plane = layout.plane, groups = layout.groups;
  for (; count > 0; --count, w += layout.group_bytes, tile.q += layout.group_size, tile.scales += 1, tile.sums += 2) {
    int32x4_t sums[kPlanes][kTokens][kQuads];
    unroll<kTokens>([&](auto t) HVL_INLINE {
      const int32_t* s = tile.sums + t * groups * 2;
      int32_t start = 0;
      if constexpr (kWeightBits == 4) start = -8 * s[0];
      if constexpr (kWeightBits == 8 && kPlanes == 2) start = -128 * (s[0] - 256 * s[1]);
      unroll<kQuads>([&](auto q) HVL_INLINE {
        if constexpr (kPlanes == 2) sums[0][t][q] = vdupq_n_s32(0);
        sums[kLast][t][q] = vdupq_n_s32(start);
      });
    });
    const uint8_t *wp = w + layout.header_bytes + 4 * row0, *x = tile.q;
    for (int32_t left = layout.group_size; left > 0; left -= 16, x += 16, wp += 64 * kWeightBits) {
      uint8x16_t xs[kPlanes][kTokens];
      unroll<kPlanes>([&](auto p) HVL_INLINE { unroll<kTokens>([&](auto t) HVL_INLINE { xs[p][t] = vld1q_u8(x + t * row_bytes + p * plane); }); });
      unroll<4>([&](auto step) HVL_INLINE {
        int8x16_t values[kQuads];
        unroll<kQuads>([&](auto q) HVL_INLINE {
          if constexpr (kWeightBits == 8) {
            values[q] = vreinterpretq_s8_u8(vld1q_u8(wp + 128 * step + 16 * q));
          } else {
            const uint8x16_t both = vld1q_u8(wp + 128 * (step / 2) + 16 * q);
            values[q] = step % 2 ? high_nibbles(both) : low_nibbles(both);
          }
        });
        unroll<kTokens>([&](auto t) HVL_INLINE {
          unroll<kQuads>([&](auto q) HVL_INLINE {
            sums[0][t][q] = vdotq_laneq_s32(sums[0][t][q], values[q], vreinterpretq_s8_u8(xs[0][t]), decltype(step)::value);
          });
        });
        if constexpr (kPlanes == 2) {
          if constexpr (kWeightBits == 8) unroll<kQuads>([&](auto q) HVL_INLINE { values[q] = veorq_s8(values[q], vdupq_n_s8(-128)); });
          unroll<kTokens>([&](auto t) HVL_INLINE {
            unroll<kQuads>([&](auto q) HVL_INLINE {
              const uint32x4_t sum = vreinterpretq_u32_s32(sums[1][t][q]);
              sums[1][t][q] = vreinterpretq_s32_u32(vdotq_laneq_u32(sum, vreinterpretq_u8_s8(values[q]), xs[1][t], decltype(step)::value));
            });
          });
        }
      });
    }
    unroll<kQuads>([&](auto q) HVL_INLINE {
      const RowFactors factors = row_factors(layout, w, row0 + 4 * q);
      unroll<kTokens>([&](auto t) HVL_INLINE {
        int32x4_t dot = sums[kLast][t][q];
        if constexpr (kPlanes == 2) dot = vaddq_s32(dot, vshlq_n_s32(sums[0][t][q], 8));
        add_scaled(dot, factors, layout.zero_points, tile.scales[t * groups], tile.sums[t * groups * 2], acc + kLinearRowBlock * t + row0 + 4 * q);
      });
    });
  }
}

// All groups and rows of a row block, for kTokens tokens or fewer.
template <int kWeightBits, int kPlanes, int kTokens = kMaxStreams / kPlanes>
void add_block(const Layout& layout, const uint8_t* w, const TileOfX& tile, int32_t tokens, float* acc) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) return add_block<kWeightBits, kPlanes, kTokens - 1>(layout, w, tile, tokens, acc);
  }
  constexpr int32_t kRows = 4 * quads_for(kTokens * kPlanes);
  // In passes over a part of the rows, a group at a time: its weights are in the L1 cache after the first.
  const int32_t at_once = kRows == kLinearRowBlock ? layout.groups : 1;
  for (int32_t g = 0; g < layout.groups; g += at_once) {
    for (int32_t row0 = 0; row0 < kLinearRowBlock; row0 += kRows) {
      add_groups<kWeightBits, kPlanes, kTokens>(layout, row0, at_once, w + g * layout.group_bytes, tile.at(layout, g), acc);
    }
  }
}

// sdot and udot, for any number of tokens of a tile.
struct LaneDots {
  template <int kWeightBits, int kPlanes>
  static void block(const Layout& layout, const uint8_t* w, const TileOfX& tile, int32_t tokens, float* acc) {
    add_block<kWeightBits, kPlanes>(layout, w, tile, tokens, acc);
  }
};

// acc (tokens, 32) + bias + residual -> out, for one row block.
inline void store_block(const LinearArgs& args, int32_t block, int32_t token0, int32_t tokens, const float* acc) {
  const int32_t row0 = block * kLinearRowBlock, left = args.weight.rows - row0;
  const int32_t rows = left < kLinearRowBlock ? left : kLinearRowBlock;
  const float* bias = args.bias ? args.bias + row0 : nullptr;
  for (int32_t t = 0; t < tokens; ++t, acc += kLinearRowBlock) {
    const int64_t at = int64_t(token0 + t) * args.out_stride + row0;
    const float* residual = args.residual ? args.residual + at : nullptr;
    float* out = args.out + at;
    int32_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      float32x4_t y = vld1q_f32(acc + r);
      if (bias) y = vaddq_f32(y, vld1q_f32(bias + r));
      if (residual) y = vaddq_f32(vld1q_f32(residual + r), y);
      vst1q_f32(out + r, y);
    }
    for (; r < rows; ++r) {
      float y = acc[r];
      if (bias) y = y + bias[r];
      if (residual) y = residual[r] + y;
      out[r] = y;
    }
  }
}

template <typename Dots, int kWeightBits, int kPlanes>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int32_t kMaxTokens = kMaxStreams / kPlanes;
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight);
  const int64_t plane = int64_t(groups) * weight.group_size, block_bytes = int64_t(linear_block_bytes(weight));
  const Layout layout = {.groups = groups,
                         .group_size = weight.group_size,
                         .scale_bits = weight.scale_bits,
                         .zero_points = weight.zero_points != 0,
                         .header_bytes = int64_t(linear_header_bytes(weight)),
                         .group_bytes = int64_t(linear_group_bytes(weight)),
                         .row_bytes = plane * kPlanes,
                         .plane = plane};
  // Sets and tiles as equal as they can be: a last tile of one token would cost as many weight loads as a full one.
  const int64_t blocks = end - begin, fitting = kSetBytes / block_bytes > 0 ? kSetBytes / block_bytes : 1;
  const int64_t sets = (blocks + fitting - 1) / fitting;
  const int32_t tokens = args.x.rows, tiles = (tokens + kMaxTokens - 1) / kMaxTokens;
  alignas(64) float acc[kMaxTokens * kLinearRowBlock];
  for (int64_t s = 0; s < sets; ++s) {
    const int32_t first = begin + int32_t(blocks * s / sets), last = begin + int32_t(blocks * (s + 1) / sets);
    for (int32_t i = 0, token = 0; i < tiles; ++i) {
      const int32_t next = int32_t(int64_t(tokens) * (i + 1) / tiles), count = next - token;
      const TileOfX tile = {args.x.q + token * layout.row_bytes, args.x.scales + int64_t(token) * groups, args.x.sums + int64_t(token) * groups * 2};
      for (int32_t b = first; b < last; ++b) {
        memset(acc, 0, sizeof acc);
        Dots::template block<kWeightBits, kPlanes>(layout, weight.data + b * block_bytes, tile, count, acc);
        store_block(args, b, token, count, acc);
      }
      token = next;
    }
  }
}

template <typename Dots>
void run_linear(const LinearArgs& args, int32_t begin, int32_t end) {
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run<Dots, 4, 2>(args, begin, end);
    return run<Dots, 4, 1>(args, begin, end);
  }
  if (args.x.bits == 16) return run<Dots, 8, 2>(args, begin, end);
  run<Dots, 8, 1>(args, begin, end);
}

}  // namespace
}  // namespace hvl

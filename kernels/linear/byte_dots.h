// The body that instruction sets with a dot product of four unsigned by four signed bytes share (and AVX2, which makes one of three
// instructions). Included by one .cc an instruction set; static or in an anonymous namespace, so that no weak symbol appears.
//
// One side of a dot must be unsigned, so weights go in with an offset that the sums of x take out again:
//   W4: v = w + 8 in 0..15 is both a u8 and an s8.  A8:  sum v x;  A16: 256 * sum v hi + sum lo v;  then - 8 * sum x.
//   W8: v = w + 128 is a u8.                        A8:  sum v x - 128 * sum x;
//                                                   A16: 256 * (sum v hi - 128 * sum hi) + sum lo w.
// Sums of four products stay below 2^18, and wrapping int32 sums end at the exact dot.
//
// Order of the work, for a range of row blocks:
//   for a set of row blocks whose weights stay in the L2 cache
//     for a tile of up to S::kMaxStreams planes of tokens
//       for the row blocks: the sums of the tile (tokens x 32 floats, on the stack) over all groups; bias, residual, out
// So weights come from memory once, x comes from the last-level cache once a set, and the inner loop finds both in the L2 cache or nearer.
//
// What bounds it (Zen 4): many tokens, the multiplier pipes: a group of 128 of a full tile is 768 dot products, 48 products and sums of
// scales on the same pipes (94 % at most) and some waiting at the group's end, 89 % (A8) to 93 % (A16) with everything in the L2 cache; the
// rest is x and out from the last-level cache. One or two tokens: reading the weights, as fast as one core reads memory. From four tokens
// of A16 (eight of A8) on, decode is bound by dot products too.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/linear/linear.h"

namespace hvl {
namespace {

#define HVL_INLINE __attribute__((always_inline))
// gcc 12 merges the values an accumulator has before, in and after the loop into one variable and then moves all of them, through
// memory too, in every step. Without that pass the loop is dot products, broadcasts and loads, and 1.5 to 2 times as fast.
#if defined(__GNUC__) && !defined(__clang__)
#define HVL_HOT_LOOP __attribute__((noinline, optimize("no-tree-coalesce-vars")))
#else
#define HVL_HOT_LOOP __attribute__((noinline))
#endif

constexpr int64_t kSetBytes = 640 << 10;  // of weights: what an L2 cache keeps beside the tile's x, if not a single row block is more

// Row blocks whose groups one token takes in turn: memory is read in as many streams, and a processor's own prefetching follows each of them.
constexpr int32_t kSideBySide = 4;

constexpr int64_t kPrefetchBytes = 2048;  // weights come from memory or the L2 cache, and the processor's own prefetch stops at page ends

template <int kValue>
struct Index {
  static constexpr int value = kValue;
  constexpr operator int() const { return kValue; }
};

// f(Index<0>) .. f(Index<n - 1>), unrolled while parsing: arrays of registers indexed in f become registers at once. In a plain
// loop gcc unrolls too late for that and stores every accumulator in every step.
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
  int32_t vectors;     // 128-byte vectors of weights a group
  int32_t group_size;
  int32_t scale_bits;  // of the weights' scales
  bool zero_points;
  int64_t row_bytes;   // from one token's planes to the next's
  int64_t plane;       // from `hi` to `lo`
};

// x of the tile's first token.
struct TileOfX {
  const uint8_t* q;
  const float* scales;
  const int32_t* sums;
};

// What the sums start at: the offset of the weights, taken out beforehand. Unsigned where it reaches 2^31 by itself (groups of 512): the sum of
// the whole group fits again.
template <typename S, int kWeightBits>
HVL_INLINE inline int32_t start_of_sums(const int32_t* sums) {
  if constexpr (!S::kOffset) return 0;
  if constexpr (kWeightBits == 4) return -8 * sums[0];
  return S::kPlanes == 1 ? -128 * sums[0] : int32_t(-128u * 256u * uint32_t(sums[1]));
}

// Adds `count` groups of rows [row0, row0 + S::kRows) of a row block to acc (kTokens, 32), with prefetches `ahead` bytes ahead.
template <typename S, int kWeightBits, int kTokens>
HVL_HOT_LOOP void add_groups(const Layout& layout, int32_t row0, int32_t count, const uint8_t* w, TileOfX tile, float* acc, int64_t ahead) {
  constexpr int kVectors = S::kVectors;
  constexpr bool kBothNibbles = kWeightBits == 4 && S::kBothNibbles;  // in one step, and both planes in one sum
  using Int = typename S::Int;
  if constexpr (S::kRows == kLinearRowBlock) row0 = 0;
  acc += row0;
  constexpr int kFloats = S::kRows / S::kLanes;
  constexpr bool kStay = kTokens <= 3 && S::kLanes == 16;  // in registers from one group to the next
  typename S::Float stay[kTokens][kFloats];
  if constexpr (kStay) {
    unroll<kTokens>([&](auto t) HVL_INLINE {
      unroll<kFloats>([&](auto v) HVL_INLINE { stay[t][v] = S::floats(acc + kLinearRowBlock * t + S::kLanes * v); });
    });
  }
  const int64_t row_bytes = layout.row_bytes, plane = layout.plane, groups = layout.groups;
  for (; count > 0; --count) {
    const uint8_t* scales = w + uint32_t(row0 * layout.scale_bits) / 8;
    const uint8_t* zero_points = w + 4 * layout.scale_bits + 2 * row0;
    w += 4 * layout.scale_bits + (layout.zero_points ? kLinearRowBlock * sizeof(int16_t) : 0);
    Int low[kTokens][kVectors], high[kTokens][kVectors];
    unroll<kTokens>([&](auto t) HVL_INLINE {
      const Int start = S::set_int(start_of_sums<S, kWeightBits>(tile.sums + t * groups * 2));
      unroll<kVectors>([&](auto v) HVL_INLINE {
        low[t][v] = start;
        high[t][v] = S::zero();
      });
    });
    const uint8_t *wp = w + 4 * row0, *x = tile.q;
    int32_t left = layout.vectors;  // at least 4
    do {
      unroll<S::kRows * 4 / 64>([&](auto line) HVL_INLINE {
        _mm_prefetch(reinterpret_cast<const char*>(wp + ahead + 64 * line), _MM_HINT_T0);
      });
      if constexpr (kBothNibbles) {
        Int low_values[kVectors], high_values[kVectors];
        unroll<kVectors>([&](auto v) HVL_INLINE {
          low_values[v] = S::low_nibbles(S::load(wp + S::kBytes * v));
          high_values[v] = S::high_nibbles(S::load(wp + S::kBytes * v));
        });
        unroll<kTokens>([&](auto t) HVL_INLINE {
          const uint8_t* xt = x + t * row_bytes;
          if constexpr (S::kPlanes == 2) {  // the weights as the signed side
            const Int first = S::broadcast(xt + plane, plane), second = S::broadcast(xt + plane + 4, plane);
            unroll<kVectors>([&](auto v) HVL_INLINE { low[t][v] = S::template two_dots<1>(low[t][v], first, low_values[v], second, high_values[v]); });
          }
          const Int first = S::broadcast(xt, plane), second = S::broadcast(xt + 4, plane);
          unroll<kVectors>([&](auto v) HVL_INLINE {
            low[t][v] = S::template two_dots<S::kPlanes == 2 ? 256 : 1>(low[t][v], low_values[v], first, high_values[v], second);
          });
        });
      } else {
        unroll<8 / kWeightBits>([&](auto part) HVL_INLINE {
          Int values[kVectors];
          unroll<kVectors>([&](auto v) HVL_INLINE {
            values[v] = S::load(wp + S::kBytes * v);
            if constexpr (kWeightBits == 4) values[v] = part ? S::high_nibbles(values[v]) : S::low_nibbles(values[v]);
          });
          const uint8_t* xp = x + 4 * part;
          if constexpr (S::kPlanes == 2) {  // the weights as the signed side
            unroll<kTokens>([&](auto t) HVL_INLINE {
              const Int low_x = S::broadcast(xp + t * row_bytes + plane, plane);
              unroll<kVectors>([&](auto v) HVL_INLINE { low[t][v] = S::dot(low[t][v], low_x, values[v]); });
            });
          }
          if constexpr (kWeightBits == 8) unroll<kVectors>([&](auto v) HVL_INLINE { values[v] = S::flip(values[v]); });
          unroll<kTokens>([&](auto t) HVL_INLINE {
            const Int signed_x = S::broadcast(xp + t * row_bytes, plane);
            unroll<kVectors>([&](auto v) HVL_INLINE {
              Int& sum = S::kPlanes == 2 ? high[t][v] : low[t][v];
              sum = S::dot(sum, values[v], signed_x);
            });
          });
        });
      }
      x += 32 / kWeightBits;
      wp += 128;
    } while (--left > 0);
    w += 128 * int64_t(layout.vectors);
    tile.q += layout.group_size;
    float* to = acc;
    asm("" : "+r"(to));  // one base with offsets, instead of an address a register of sums, most of them kept on the stack
    const auto add = [&](auto with_zero_points) HVL_INLINE {
      unroll<kFloats>([&](auto v) HVL_INLINE {
        const auto scale_w = layout.scale_bits == 16 ? S::halves(scales, v) : S::floats(reinterpret_cast<const float*>(scales) + S::kLanes * v);
        unroll<kTokens>([&](auto t) HVL_INLINE {
          Int dot = S::row_sums(low[t], v);
          if constexpr (S::kPlanes == 2 && !kBothNibbles) dot = S::add(S::times256(high[t][v]), dot);
          if constexpr (with_zero_points) dot = S::minus_product(dot, S::shorts(zero_points, v), S::set_int(tile.sums[t * groups * 2]));
          float* sum = to + kLinearRowBlock * t + S::kLanes * v;
          const auto before = kStay ? stay[t][v] : S::floats(sum);
          const auto after = S::fma(S::to_float(dot), S::mul(scale_w, S::set(tile.scales[t * groups])), before);
          if constexpr (kStay) {
            stay[t][v] = after;
          } else {
            S::store(sum, after);
          }
        });
      });
    };
    if (layout.zero_points) {
      add(Index<1>{});
    } else {
      add(Index<0>{});
    }
    tile.scales += 1;
    tile.sums += 2;
  }
  if constexpr (kStay) {
    unroll<kTokens>([&](auto t) HVL_INLINE {
      unroll<kFloats>([&](auto v) HVL_INLINE { S::store(acc + kLinearRowBlock * t + S::kLanes * v, stay[t][v]); });
    });
  }
}

// Adds one group of kSideBySide row blocks, block_bytes apart, for one token to acc (kSideBySide, 32): a vector of each in turn, so that memory is
// read as that many streams, which a processor's own prefetching follows side by side, and x is broadcast once for all.
template <typename S, int kWeightBits>
HVL_HOT_LOOP void add_group_side_by_side(const Layout& layout, const uint8_t* w, int64_t block_bytes, TileOfX tile, float* acc, int64_t ahead) {
  constexpr int kVectors = S::kVectors, kParts = 8 / kWeightBits;
  static_assert(S::kRows == kLinearRowBlock);
  using Int = typename S::Int;
  const int64_t plane = layout.plane;
  const uint8_t* wp = w + 4 * layout.scale_bits + (layout.zero_points ? kLinearRowBlock * sizeof(int16_t) : 0);
  Int low[kSideBySide][kVectors], high[kSideBySide][kVectors];
  const Int start = S::set_int(start_of_sums<S, kWeightBits>(tile.sums));
  unroll<kSideBySide>([&](auto n) HVL_INLINE {
    unroll<kVectors>([&](auto v) HVL_INLINE {
      low[n][v] = start;
      high[n][v] = S::zero();
    });
  });
  const uint8_t* x = tile.q;
  int32_t left = layout.vectors;
  do {
    Int signed_x[kParts], low_x[kParts];
    unroll<kParts>([&](auto part) HVL_INLINE {
      signed_x[part] = S::broadcast(x + 4 * part, plane);
      if constexpr (S::kPlanes == 2) low_x[part] = S::broadcast(x + 4 * part + plane, plane);
    });
    unroll<kSideBySide>([&](auto n) HVL_INLINE {
      const uint8_t* at = wp + n * block_bytes;
      unroll<S::kRows * 4 / 64>([&](auto line) HVL_INLINE {
        _mm_prefetch(reinterpret_cast<const char*>(at + ahead + 64 * line), _MM_HINT_T0);
      });
      unroll<kVectors>([&](auto v) HVL_INLINE {
        const Int loaded = S::load(at + S::kBytes * v);
        unroll<kParts>([&](auto part) HVL_INLINE {
          Int values = loaded;
          if constexpr (kWeightBits == 4) values = part ? S::high_nibbles(values) : S::low_nibbles(values);
          if constexpr (S::kPlanes == 2) low[n][v] = S::dot(low[n][v], low_x[part], values);
          if constexpr (kWeightBits == 8) values = S::flip(values);
          Int& sum = S::kPlanes == 2 ? high[n][v] : low[n][v];
          sum = S::dot(sum, values, signed_x[part]);
        });
      });
    });
    x += 32 / kWeightBits;
    wp += 128;
  } while (--left > 0);
  const auto scale_x = S::set(tile.scales[0]);
  unroll<kSideBySide>([&](auto n) HVL_INLINE {
    const uint8_t* scales = w + n * block_bytes;
    const uint8_t* zero_points = scales + 4 * layout.scale_bits;
    unroll<kVectors>([&](auto v) HVL_INLINE {
      const auto scale_w = layout.scale_bits == 16 ? S::halves(scales, v) : S::floats(reinterpret_cast<const float*>(scales) + S::kLanes * v);
      Int dot = low[n][v];
      if constexpr (S::kPlanes == 2) dot = S::add(S::times256(high[n][v]), dot);
      if (layout.zero_points) dot = S::minus_product(dot, S::shorts(zero_points, v), S::set_int(tile.sums[0]));
      float* sum = acc + kLinearRowBlock * n + S::kLanes * v;
      S::store(sum, S::fma(S::to_float(dot), S::mul(scale_w, scale_x), S::floats(sum)));
    });
  });
}

using AddGroups = void (*)(const Layout&, int32_t, int32_t, const uint8_t*, TileOfX, float*, int64_t);

template <typename S, int kWeightBits, int kTokens = S::kMaxStreams / S::kPlanes>
inline AddGroups add_groups_of(int32_t tokens) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) return add_groups_of<S, kWeightBits, kTokens - 1>(tokens);
  }
  return add_groups<S, kWeightBits, kTokens>;
}

// acc (tokens, 32) + bias + residual -> out, for one row block.
template <typename S>
inline void store_block(const LinearArgs& args, int32_t block, int32_t token0, int32_t tokens, const float* acc) {
  const int32_t row0 = block * kLinearRowBlock, left = args.weight.rows - row0;
  const int32_t rows = left < kLinearRowBlock ? left : kLinearRowBlock;
  const float* bias = args.bias ? args.bias + row0 : nullptr;
  for (int32_t t = 0; t < tokens; ++t, acc += kLinearRowBlock) {
    const int64_t at = int64_t(token0 + t) * args.out_stride + row0;
    const float* residual = args.residual ? args.residual + at : nullptr;
    float* out = args.out + at;
    int32_t r = 0;
    for (; r + S::kLanes <= rows; r += S::kLanes) {
      auto y = S::floats(acc + r);
      if (bias) y = S::sum(y, S::floats(bias + r));
      if (residual) y = S::sum(S::floats(residual + r), y);
      S::store(out + r, y);
    }
    for (; r < rows; ++r) {
      float y = acc[r];
      if (bias) y = y + bias[r];
      if (residual) y = residual[r] + y;
      out[r] = y;
    }
  }
}

inline void prefetch_out(const LinearArgs& args, int32_t block, int32_t token0, int32_t tokens) {
  for (int32_t t = 0; t < tokens; ++t) {
    const float* out = args.out + int64_t(token0 + t) * args.out_stride + block * kLinearRowBlock;
    _mm_prefetch(reinterpret_cast<const char*>(out), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(out + 16), _MM_HINT_T0);
  }
}

template <typename S, int kWeightBits>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int32_t kMaxTokens = S::kMaxStreams / S::kPlanes, kWays = 8, kWayBytes = 4096;
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight);
  const int64_t plane = int64_t(groups) * weight.group_size, block_bytes = int64_t(linear_block_bytes(weight));
  const Layout layout = {.groups = groups,
                         .vectors = weight.group_size * kWeightBits / 32,
                         .group_size = weight.group_size,
                         .scale_bits = weight.scale_bits,
                         .zero_points = weight.zero_points != 0,
                         .row_bytes = plane * (args.x.bits / 8),
                         .plane = plane};
  // Sets and tiles as equal as they can be: a last tile of one token would cost as many weight loads as a full one.
  const int64_t blocks = end - begin, fitting = kSetBytes / block_bytes > 0 ? kSetBytes / block_bytes : 1;
  const int64_t sets = (blocks + fitting - 1) / fitting;
  // Planes that are whole ways of the L1 cache apart share its sets: no more of them than weights passing through leave room for.
  const int32_t most = S::kMaxStreams > kWays && plane % kWayBytes == 0 ? kMaxTokens / 2 : kMaxTokens;
  const int32_t tokens = args.x.rows, tiles = (tokens + most - 1) / most;
  constexpr int32_t kTiles = kMaxTokens > kSideBySide ? kMaxTokens : kSideBySide;
  alignas(64) float acc[kTiles * kLinearRowBlock];
  for (int64_t s = 0; s < sets; ++s) {
    const int32_t first = begin + int32_t(blocks * s / sets), last = begin + int32_t(blocks * (s + 1) / sets);
    for (int32_t i = 0, token = 0; i < tiles; ++i) {
      const int32_t next = int32_t(int64_t(tokens) * (i + 1) / tiles), count = next - token;
      const TileOfX tile = {args.x.q + token * layout.row_bytes, args.x.scales + int64_t(token) * groups, args.x.sums + int64_t(token) * groups * 2};
      const AddGroups add = add_groups_of<S, kWeightBits>(count);
      const int32_t most_beside = count == 1 ? kSideBySide : 1;
      for (int32_t b = first; b < last; b += most_beside) {
        const int32_t beside = last - b < most_beside ? last - b : most_beside;
        for (int32_t n = 0; n < beside; ++n) prefetch_out(args, b + n, token, count);
        memset(acc, 0, size_t(beside) * count * kLinearRowBlock * sizeof(float));
        // In passes over a part of the rows, a group at a time: its weights are in the L1 cache after the first.
        const int32_t at_once = S::kRows == kLinearRowBlock && beside == 1 ? groups : 1;
        const uint8_t* w = weight.data + b * block_bytes;
        for (int32_t g = 0; g < groups; g += at_once, w += linear_group_bytes(weight)) {
          // Behind the last group come, for each of the row blocks, those that are read after these.
          const int64_t ahead = kPrefetchBytes + (g + at_once == groups ? (beside - 1) * block_bytes : 0);
          const TileOfX part = {tile.q + int64_t(g) * weight.group_size, tile.scales + g, tile.sums + 2 * g};
          if constexpr (S::kLanes == 16) {
            if (beside == kSideBySide) {
              add_group_side_by_side<S, kWeightBits>(layout, w, block_bytes, part, acc, ahead);
              continue;
            }
          }
          for (int32_t n = 0; n < beside; ++n) {
            for (int32_t row0 = 0; row0 < kLinearRowBlock; row0 += S::kRows) {
              add(layout, row0, at_once, w + n * block_bytes, part, acc + n * kLinearRowBlock, ahead);
            }
          }
        }
        for (int32_t n = 0; n < beside; ++n) store_block<S>(args, b + n, token, count, acc + n * count * kLinearRowBlock);
      }
      token = next;
    }
  }
}

// Nibbles<planes>, Bytes<planes>: S for 4-bit and 8-bit weights, by the planes of x.
template <template <int> typename Nibbles, template <int> typename Bytes>
void run_linear(const LinearArgs& args, int32_t begin, int32_t end) {
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run<Nibbles<2>, 4>(args, begin, end);
    return run<Nibbles<1>, 4>(args, begin, end);
  }
  if (args.x.bits == 16) return run<Bytes<2>, 8>(args, begin, end);
  run<Bytes<1>, 8>(args, begin, end);
}

}  // namespace
}  // namespace hvl

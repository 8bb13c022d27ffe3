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
//   for a set of row blocks whose weights fit into the L2 cache
//     for a tile of up to S::kMaxStreams planes of tokens
//       for as many groups of K as fit the buffer
//         write x as the dots take it: one stream of words, with the scales and offsets of the group in front
//         for the row blocks: add the groups to the tile's sums (kMaxTokens x 32 floats a row block, on the stack)
//       bias, residual, out
// So weights come from memory once a set, x comes from it once a set too, and the inner loop reads two streams, whatever the strides.
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

constexpr int kMaxSetBlocks = 16;
constexpr int32_t kSetBytes = 512 << 10;   // of weights: half of an L2 cache, if not a single row block is more
constexpr int32_t kPackedBytes = 24 << 10;  // of x: stays in the L1 cache while weights pass through it

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

// Groups of K of one row block: how many, and how they lie.
struct Groups {
  int32_t count;
  int32_t vectors;      // 128-byte vectors of weights a group
  int32_t scale_bits;   // of the weights' scales
};

// One group of tokens [token0, token0 + tokens) of x.
struct GroupOfX {
  const QuantizedRows& x;
  int32_t group, token0, tokens;

  int32_t groups() const { return quantized_groups(x.cols, x.group_size); }
  // `plane` 0: `hi` or the values; 1: `lo`. `token` from 0 on.
  const uint8_t* plane(int32_t plane, int32_t token) const {
    const int64_t bytes = int64_t(groups()) * x.group_size;
    return x.q + (int64_t(token0 + token) * (x.bits / 8) + plane) * bytes + int64_t(group) * x.group_size;
  }
};

// x for byte dots: for every four values of K a word of four bytes a stream, first of `hi` (bits 16) or the values (bits 8) of every
// token, then (bits 16) of `lo` of every token.
struct ByteWords {
  static constexpr int kWord = 4;

  // Where a token's sums start.
  static int32_t start(const int32_t* sums, int32_t weight_bits, int32_t x_bits) {
    if (weight_bits == 4) return -8 * sums[0];
    return x_bits == 8 ? -128 * sums[0] : -(128 * 256) * sums[1];
  }

  static void pack(const GroupOfX& from, uint8_t* to) {
    const int32_t streams = from.tokens * (from.x.bits / 8);
    const auto stream = [&](int32_t s) { return s < from.tokens ? from.plane(0, s) : from.plane(1, s - from.tokens); };
    // From the last four down: what an incomplete four writes too much is overwritten by the first four and by the next words.
    for (int32_t s = (streams - 1) / 4 * 4; s >= 0; s -= 4) {
      const uint8_t* four[4];
      for (int32_t i = 0; i < 4; ++i) four[i] = stream(s + i < streams ? s + i : s);
      pack_four(four, from.x.group_size, to + kWord * s, kWord * streams);
    }
  }

 private:
  // The words of four streams, `stride` bytes from one four values of K to the next.
  static void pack_four(const uint8_t* const* from, int32_t group_size, uint8_t* to, int32_t stride) {
    const auto load = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
    const auto store = [](uint8_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); };
    for (int32_t k = 0; k < group_size; k += 16, to += 4 * stride) {
      const __m128i a = load(from[0] + k), b = load(from[1] + k), c = load(from[2] + k), d = load(from[3] + k);
      const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
      const __m128i ab2 = _mm_unpackhi_epi32(a, b), cd2 = _mm_unpackhi_epi32(c, d);
      store(to, _mm_unpacklo_epi64(ab, cd));
      store(to + stride, _mm_unpackhi_epi64(ab, cd));
      store(to + 2 * stride, _mm_unpacklo_epi64(ab2, cd2));
      store(to + 3 * stride, _mm_unpackhi_epi64(ab2, cd2));
    }
  }
};

// x of a tile as the dots take it, for each group: (tokens) float scales; (tokens) int32, where the sums start; the words.
template <typename S, int kPlanes>
inline int32_t packed_group_bytes(int32_t tokens, int32_t group_size) {
  return tokens * (8 + kPlanes * S::kWord * (group_size / 4));
}

// Groups [begin, end) of `tokens` tokens from token0 on. A little may be written behind the last word.
template <typename S, int kPlanes>
inline void pack_x(const QuantizedRows& x, int32_t weight_bits, int32_t token0, int32_t tokens, int32_t begin, int32_t end, uint8_t* to) {
  for (int32_t g = begin; g < end; ++g, to += packed_group_bytes<S, kPlanes>(tokens, x.group_size)) {
    const GroupOfX from = {x, g, token0, tokens};
    for (int32_t t = 0; t < tokens; ++t) {
      const int64_t at = int64_t(token0 + t) * from.groups() + g;
      const int32_t start = S::start(x.sums + 2 * at, weight_bits, x.bits);
      memcpy(to + 4 * t, x.scales + at, sizeof(float));
      memcpy(to + 4 * (tokens + t), &start, sizeof start);
    }
    S::pack(from, to + 8 * tokens);
  }
}

// Adds groups of rows [row0, row0 + S::kRows) of a row block to acc (kTokens, 32).
template <typename S, int kWeightBits, int kPlanes, int kTokens>
HVL_HOT_LOOP void add_groups(const Groups& groups, int32_t row0, const uint8_t* w, const uint8_t* x, float* acc) {
  constexpr int kVectors = S::kVectors, kStreams = kPlanes * kTokens;
  constexpr int kPrefetchBytes = 4096;  // weights come from memory or the L2 cache, and the processor's own prefetch stops at page ends
  using Int = typename S::Int;
  if constexpr (S::kRows == kLinearRowBlock) row0 = 0;
  acc += row0;
  for (int32_t g = groups.count; g > 0; --g) {
    const uint8_t* scales = w + uint32_t(row0 * groups.scale_bits) / 8;
    const uint8_t* scale_x = x;
    w += 4 * groups.scale_bits;
    Int low[kTokens][kVectors], high[kTokens][kVectors];
    unroll<kTokens>([&](auto t) HVL_INLINE {
      const Int start = S::broadcast4(x + 4 * (kTokens + t));
      unroll<kVectors>([&](auto v) HVL_INLINE {
        low[t][v] = start;
        high[t][v] = S::zero();
      });
    });
    x += 8 * kTokens;
    const uint8_t* wp = w + 4 * row0;
    int32_t left = groups.vectors;  // at least 4
    do {
      unroll<S::kRows * 4 / 64>([&](auto line) HVL_INLINE { _mm_prefetch(reinterpret_cast<const char*>(wp + kPrefetchBytes + 64 * line), _MM_HINT_T0); });
      unroll<8 / kWeightBits>([&](auto part) HVL_INLINE {
        Int values[kVectors];
        unroll<kVectors>([&](auto v) HVL_INLINE {
          values[v] = S::load(wp + S::kBytes * v);
          if constexpr (kWeightBits == 4) values[v] = part ? S::high_nibbles(values[v]) : S::low_nibbles(values[v]);
        });
        if constexpr (kPlanes == 2) {  // the weights as the signed side
          unroll<kTokens>([&](auto t) HVL_INLINE {
            const Int low_x = S::broadcast(x + S::kWord * (kTokens + t));
            unroll<kVectors>([&](auto v) HVL_INLINE { low[t][v] = S::dot(low[t][v], low_x, values[v]); });
          });
        }
        if constexpr (kWeightBits == 8) unroll<kVectors>([&](auto v) HVL_INLINE { values[v] = S::flip(values[v]); });
        unroll<kTokens>([&](auto t) HVL_INLINE {
          const Int signed_x = S::broadcast(x + S::kWord * t);
          unroll<kVectors>([&](auto v) HVL_INLINE {
            Int& sum = kPlanes == 2 ? high[t][v] : low[t][v];
            sum = S::dot(sum, values[v], signed_x);
          });
        });
        x += S::kWord * kStreams;
      });
      wp += 128;
    } while (--left > 0);
    w += 128 * int64_t(groups.vectors);
    float* sums = acc;
    asm("" : "+r"(sums));  // one base with offsets, instead of an address a register of sums, most of them kept on the stack
    unroll<S::kRows / S::kLanes>([&](auto v) HVL_INLINE {
      const auto scale_w = groups.scale_bits == 16 ? S::halves(scales, v) : S::floats(reinterpret_cast<const float*>(scales) + S::kLanes * v);
      unroll<kTokens>([&](auto t) HVL_INLINE {
        Int dot = S::row_sums(low[t], v);
        if constexpr (kPlanes == 2) dot = S::add(S::times256(high[t][v]), dot);
        float* to = sums + kLinearRowBlock * t + S::kLanes * v;
        float scale;
        memcpy(&scale, scale_x + 4 * t, sizeof scale);
        S::store(to, S::fma(S::to_float(dot), S::mul(scale_w, S::set(scale)), S::floats(to)));
      });
    });
  }
}

template <typename S, int kWeightBits, int kPlanes>
using AddGroups = void (*)(const Groups&, int32_t, const uint8_t*, const uint8_t*, float*);

template <typename S, int kWeightBits, int kPlanes, int kTokens = S::kMaxStreams / kPlanes>
inline AddGroups<S, kWeightBits, kPlanes> add_groups_of(int32_t tokens) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) return add_groups_of<S, kWeightBits, kPlanes, kTokens - 1>(tokens);
  }
  return add_groups<S, kWeightBits, kPlanes, kTokens>;
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

// What one tile of one set of row blocks needs beside the operands.
struct Scratch {
  alignas(64) uint8_t x[kPackedBytes + 64];
  alignas(64) float acc[kMaxSetBlocks * 12 * kLinearRowBlock];
};

template <typename S, int kWeightBits, int kPlanes>
void tile_of_set(const LinearArgs& args, int32_t begin, int32_t end, int32_t token0, int32_t tokens, Scratch& scratch) {
  const LinearWeight& weight = args.weight;
  const int32_t all = linear_groups(weight), sums = tokens * kLinearRowBlock;
  const int32_t group_bytes = packed_group_bytes<S, kPlanes>(tokens, weight.group_size), fitting = kPackedBytes / group_bytes;
  const int32_t passes = (all + fitting - 1) / fitting;
  const AddGroups<S, kWeightBits, kPlanes> add = add_groups_of<S, kWeightBits, kPlanes>(tokens);
  Groups groups = {0, weight.group_size * kWeightBits / 32, weight.scale_bits};
  memset(scratch.acc, 0, size_t(end - begin) * sums * sizeof(float));
  for (int32_t pass = 0, first = 0; pass < passes; ++pass, first += groups.count) {
    groups.count = int32_t(int64_t(all) * (pass + 1) / passes) - first;
    pack_x<S, kPlanes>(args.x, kWeightBits, token0, tokens, first, first + groups.count, scratch.x);
    const size_t skipped = first * linear_group_bytes(weight);
    for (int32_t b = begin; b < end; ++b) {
      if (pass + 1 == passes) prefetch_out(args, b, token0, tokens);
      const uint8_t* w = weight.data + size_t(b) * linear_block_bytes(weight) + skipped;
      float* acc = scratch.acc + (b - begin) * sums;
      for (int32_t row0 = 0; row0 < kLinearRowBlock; row0 += S::kRows) add(groups, row0, w, scratch.x, acc);
      if (pass + 1 == passes) store_block<S>(args, b, token0, tokens, acc);
    }
  }
}

template <typename S, int kWeightBits, int kPlanes>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int32_t kMaxTokens = S::kMaxStreams / kPlanes;
  Scratch scratch;
  const int64_t fitting = kSetBytes / int64_t(linear_block_bytes(args.weight));
  const int32_t set_blocks = fitting < 1 ? 1 : fitting < kMaxSetBlocks ? int32_t(fitting) : kMaxSetBlocks;
  // Sets and tiles as equal as they can be: a last tile of one token would cost as many weight loads as a full one.
  const int32_t blocks = end - begin, sets = (blocks + set_blocks - 1) / set_blocks;
  const int32_t tokens = args.x.rows, tiles = (tokens + kMaxTokens - 1) / kMaxTokens;
  for (int32_t s = 0; s < sets; ++s) {
    const int32_t first = begin + int32_t(int64_t(blocks) * s / sets), last = begin + int32_t(int64_t(blocks) * (s + 1) / sets);
    for (int32_t i = 0, token = 0; i < tiles; ++i) {
      const int32_t next = int32_t(int64_t(tokens) * (i + 1) / tiles);
      tile_of_set<S, kWeightBits, kPlanes>(args, first, last, token, next - token, scratch);
      token = next;
    }
  }
}

template <typename S>
void run_linear(const LinearArgs& args, int32_t begin, int32_t end) {
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run<S, 4, 2>(args, begin, end);
    return run<S, 4, 1>(args, begin, end);
  }
  if (args.x.bits == 16) return run<S, 8, 2>(args, begin, end);
  run<S, 8, 1>(args, begin, end);
}

}  // namespace
}  // namespace hvl

// Attention of blocks of query rows with tiles (AMX): a product of 16 rows with 16 keys or dims over 64 bytes is one instruction.
//
// A key block of K is the right side of such a product as it lies in the cache (a lane a key, four dims), and so are the values of a block (a
// lane a dim, four keys), of which two are laid together, since a run of keys is two blocks. Bytes of q or weights are the left side. Words are
// taken apart into byte planes: x = 256 hi + lo. Of words with bytes (kWide) hi is signed and lo is not; of words with words (kWords) both are
// signed, and a row of the left side has hi and lo of a run side by side, the right side lo above hi, so that both middle products are one.
// What is laid out anew serves a group of blocks of the same kv head.
//
// A product takes 16 cycles and its store as long, in units of their own: each is between the vector work on four rows of the step before,
// which hides them. What bounds it is then that vector work (tile_softmax.h), and o: two instructions for a run and 16 dims of a row.
#pragma once

#include "kernels/attention/tile_softmax.h"
#include "kernels/attention/tiles.h"

namespace hvl {
namespace {

inline constexpr int64_t kTileBytes = 1024;
inline constexpr int kTileRows = 4;   // query rows from which tiles pay: they always take 16
inline constexpr int kTileDims = 64;  // and least dims of a head
inline constexpr int kSlots = 4;      // of a step of products: key blocks, or sixteens of dims

// Right sides of a chunk, in scratch.
struct Columns {
  uint8_t* keys;    // kWords: [key block][run of dims][lo, hi][8 rows]; else dims of no whole tile: [key block][16 rows]
  uint8_t* values;  // [run][16 dims]: 8 rows, kWords: of lo and then of hi
};

// What the products of a block are made of.
struct Operands {
  const KvSide* k;
  const Columns* columns;
  const uint8_t* left;  // q, or the weights
  int64_t stride;
  int32_t padded;
  int32_t start;  // of the chunk
  int blocks;     // of keys in it
};

// Two vectors of two words a lane (x0 x1 and x2 x3) to four bytes a lane, x0 x2 x1 x3: lo = -128 .. 127 and hi.
HVL_VEC void split_words(__m512i a, __m512i b, uint8_t* low, uint8_t* high) {
  const __m512i half = _mm512_set1_epi16(128), even = _mm512_set1_epi16(0xff);
  constexpr int kChoose = 0xca;  // of the bits of the second or third, by the first
  a = _mm512_xor_si512(_mm512_add_epi16(a, half), half);
  b = _mm512_xor_si512(_mm512_add_epi16(b, half), half);
  vec::ints_store(low, {_mm512_ternarylogic_epi32(even, a, _mm512_slli_epi16(b, 8), kChoose)});
  vec::ints_store(high, {_mm512_ternarylogic_epi32(even, _mm512_srli_epi16(a, 8), b, kChoose)});
}

// Of a chunk's key blocks. A block of values that is not there has weights of 0.
template <Dots kDots>
HVL_HOT_LOOP static void lay_columns(const Columns& columns, const KvSide& k, const KvSide& v, int32_t start, int blocks, int32_t padded) {
  const int32_t sixteens = padded / 16, runs = (padded + 31) / 32, whole = padded / 64 * 64;
  const int64_t step = int64_t{padded} * 4;  // of values: from a lane's keys to the next
  for (int b = 0; b < blocks; ++b) {
    const uint8_t *keys = k.values(start + 16 * b), *values = v.values(start + 16 * b);
    if constexpr (kDots == Dots::kWords) {
      for (int32_t i = 0; i < runs * 8; ++i) {
        uint8_t* to = columns.keys + (b * runs + i / 8) * kTileBytes + i % 8 * 64;
        const bool there = i * 4 < padded;  // else zeros
        const Ints x = there ? vec::ints_load(keys + i * 128) : vec::ints_zero(), y = there ? vec::ints_load(keys + i * 128 + 64) : vec::ints_zero();
        split_words(x.v, y.v, to, to + kTileBytes / 2);
      }
      for (int32_t s = 0; s < sixteens; ++s) {
        uint8_t* to = columns.values + (b / 2 * sixteens + s) * kTileBytes + b % 2 * 256;
HVL_UNROLL
        for (int i = 0; i < 4; ++i) {
          const uint8_t* pair = values + 2 * i * step + s * 64;
          split_words(vec::ints_load(pair).v, vec::ints_load(pair + step).v, to + i * 64, to + i * 64 + kTileBytes / 2);
        }
      }
    } else {
      for (int32_t i = 0; i < (padded > whole ? 16 : 0); ++i) {
        const bool there = whole + 4 * i < padded;
        vec::ints_store(columns.keys + b * kTileBytes + i * 64, there ? vec::ints_load(keys + (whole + 4 * i) * 16) : vec::ints_zero());
      }
      for (int32_t s = 0; s < sixteens; ++s) {
        uint8_t* to = columns.values + (b / 2 * sixteens + s) * (kTileBytes / 2) + b % 2 * 256;
HVL_UNROLL
        for (int i = 0; i < 4; ++i) vec::ints_store(to + i * 64, vec::ints_load(values + i * step + s * 64));
      }
    }
  }
}

// Sums of tiles go through four registers in turn, by the number of the product in its step.
constexpr int sum_of(int product) { return product % kSums; }

// Middle, high and low products of a run's left side with a tile of lo above hi.
template <int kFirst>
HVL_VEC void multiply_words(const uint8_t* left, int64_t stride, const uint8_t* right) {
  constexpr int kMiddle = sum_of(kFirst), kHigh = sum_of(kFirst + 1), kLow = sum_of(kFirst + 2);
  tile_zero<kMiddle>();
  tile_load<kA>(left, stride);
  tile_load<kB>(right, 64);
  tile_dots<true, kMiddle, kA, kB>();
  tile_zero<kHigh>();
  tile_load<kHalfA>(left, stride);
  tile_load<kHalfB>(right + kTileBytes / 2, 64);
  tile_dots<true, kHigh, kHalfA, kHalfB>();
  tile_zero<kLow>();
  tile_load<kHalfA>(left + kAttentionRun, stride);
  tile_load<kHalfB>(right, 64);
  tile_dots<true, kLow, kHalfA, kHalfB>();
}

// Of a plane of q with key block b over all dims.
template <bool kSigned, int kSum>
HVL_VEC void multiply_keys(const Operands& x, const uint8_t* q, int b) {
  const uint8_t* keys = x.k->values(x.start) + b * x.k->block_bytes;
  tile_zero<kSum>();
  int32_t d = 0;
  for (; d + 64 <= x.padded; d += 64) {
    tile_load<kA>(q + d, x.stride);
    tile_load<kB>(keys + d * 16, 64);
    tile_dots<kSigned, kSum, kA, kB>();
  }
  if (d < x.padded) {
    tile_load<kA>(q + d, x.stride);  // what lies behind the row meets zeros
    tile_load<kB>(x.columns->keys + b * kTileBytes, 64);
    tile_dots<kSigned, kSum, kA, kB>();
  }
}

// Products with keys: a step is a slice and (kWords) a run of its dims, a slot one of its key blocks.
template <Dots kDots>
struct KeyProducts {
  static constexpr int kProducts = planes(kDots);
  Operands x;
  int runs;  // of dims

  template <int kSlot>
  __attribute__((always_inline)) bool multiply(int step) const {
    const int b = step / runs * kSliceBlocks + kSlot, run = step % runs;
    if (b >= x.blocks) return false;
    constexpr int kFirst = kSlot * kProducts;
    if constexpr (kDots == Dots::kWords) {
      multiply_words<kFirst>(x.left + run * 64, x.stride, x.columns->keys + (b * runs + run) * kTileBytes);
    } else {
      multiply_keys<true, sum_of(kFirst)>(x, x.left, b);
      if constexpr (kDots == Dots::kWide) multiply_keys<false, sum_of(kFirst + 1)>(x, x.left + x.padded, b);
    }
    return true;
  }
};

// Products with values: a step is a run (kBytes: two) and 64 dims, a slot 16 of those.
template <Dots kDots>
struct ValueProducts {
  static constexpr int kProducts = kDots == Dots::kBytes ? 2 : planes(kDots), kStepRuns = kDots == Dots::kBytes ? 2 : 1;
  static constexpr int64_t kColumnBytes = kDots == Dots::kWords ? kTileBytes : kTileBytes / 2;
  Operands x;
  int parts;  // 64 dims each

  template <int kSlot>
  __attribute__((always_inline)) bool multiply(int step) const {
    const int32_t sixteens = x.padded / 16, s = step % parts * kSlots + kSlot, run = step / parts * kStepRuns;
    if (s >= sixteens) return false;
    constexpr int kFirst = kSlot * kProducts;
    const uint8_t* left = x.left + step / parts * 64;
    const uint8_t* right = x.columns->values + (run * sixteens + s) * kColumnBytes;
    if constexpr (kDots == Dots::kWords) {
      multiply_words<kFirst>(left, x.stride, right);
    } else {
      tile_zero<sum_of(kFirst)>();
      tile_load<kHalfA>(left, x.stride);
      tile_load<kHalfB>(right, 64);
      tile_dots<false, sum_of(kFirst), kHalfA, kHalfB>();
      tile_zero<sum_of(kFirst + 1)>();
      tile_load<kHalfA>(left + 32, x.stride);  // lo, or the next run's: of weights 0, where there is none
      if constexpr (kDots == Dots::kBytes) tile_load<kHalfB>(right + sixteens * kColumnBytes, 64);
      tile_dots<false, sum_of(kFirst + 1), kHalfA, kHalfB>();
    }
    return true;
  }
};

template <int kSlot, int kProducts>
HVL_VEC void store_products(int32_t* to) {
  constexpr int kFirst = kSlot * kProducts;
  to += kFirst * kTileInts;
  tile_store<sum_of(kFirst)>(to, 64);
  if constexpr (kProducts > 1) tile_store<sum_of(kFirst + 1)>(to + kTileInts, 64);
  if constexpr (kProducts > 2) tile_store<sum_of(kFirst + 2)>(to + 2 * kTileInts, 64);
}

// A slot's products of step `next`, between whose parts lies the work on four rows of the step before.
template <int kSlot, typename Products, typename Use>
HVL_VEC void slot(const Products& products, int next, int steps, int32_t* to, Use&& use) {
  const bool some = next < steps && products.template multiply<kSlot>(next);
  use();
  if (some) store_products<kSlot, Products::kProducts>(to);
}

// All steps of products; use(step, products, first): the work on rows first .. first + 3 of a step, whose products are slot by slot.
template <typename Products, typename Use>
HVL_VEC void stream(const Products& products, int steps, Use&& use) {
  constexpr int kStepInts = kSlots * Products::kProducts * kTileInts;
  alignas(64) int32_t stored[2][kStepInts];
  for (int next = 0; next <= steps; ++next) {
    const int step = next - 1;
    int32_t* to = stored[next % 2];
    const int32_t* from = stored[step & 1];
    slot<0>(products, next, steps, to, [&]() __attribute__((always_inline)) { if (step >= 0) use(step, from, 0); });
    slot<1>(products, next, steps, to, [&]() __attribute__((always_inline)) { if (step >= 0) use(step, from, 4); });
    slot<2>(products, next, steps, to, [&]() __attribute__((always_inline)) { if (step >= 0) use(step, from, 8); });
    slot<3>(products, next, steps, to, [&]() __attribute__((always_inline)) { if (step >= 0) use(step, from, 12); });
  }
}

// Scores of the rows with the keys of a chunk.
template <Dots kDots>
HVL_HOT_LOOP static void score_keys(AttentionBlock& block, TileRows& rows, const Operands& x) {
  const int runs = kDots == Dots::kWords ? (x.padded + 31) / 32 : 1;
  const int slices = (x.blocks + kSliceBlocks - 1) / kSliceBlocks;
  stream(KeyProducts<kDots>{x, runs}, slices * runs, [&](int step, const int32_t* products, int first) __attribute__((always_inline)) {
    const int run = step % runs;
    to_scores<kDots>(block, rows, first, products, *x.k, x.start, step / runs * kSlice, run == 0, run == runs - 1);
  });
}

// o of a row's 16 * W dims: in the first step of a chunk scaled to the new maximum, then += the products with the values of the step's runs.
template <Dots kDots, int W>
HVL_VEC void add_products(float* o, const int32_t* products, const float* scales, float correction, bool first_step) {
  using Values = ValueProducts<kDots>;
  Vec16 sum[W];
HVL_UNROLL
  for (int w = 0; w < W; ++w) sum[w] = vec::load(o + 16 * w);
  if (first_step) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) sum[w] = vec::mul(sum[w], vec::set1(correction));
  }
HVL_UNROLL
  for (int run = 0; run < Values::kStepRuns; ++run) {
    const Vec16 scale = vec::set1(scales[run]);
HVL_UNROLL
    for (int w = 0; w < W; ++w) {
      sum[w] = vec::fma(whole_dot<kDots>(products + (w * Values::kProducts + run) * kTileInts, kTileInts), scale, sum[w]);
    }
  }
HVL_UNROLL
  for (int w = 0; w < W; ++w) vec::store(o + 16 * w, sum[w]);
}

template <Dots kDots>
HVL_HOT_LOOP static void add_values(AttentionBlock& block, const Operands& x) {
  using Values = ValueProducts<kDots>;
  constexpr int kStepBlocks = Values::kStepRuns * kAttentionRun / kKvKeyBlock;
  const int parts = (x.padded + 63) / 64;
  const int steps = (x.blocks + kStepBlocks - 1) / kStepBlocks * parts;
  stream(Values{x, parts}, steps, [&](int step, const int32_t* products, int first) __attribute__((always_inline)) {
    const int32_t d = step % parts * 64, run = step / parts * Values::kStepRuns, left = x.padded - d;
    for (int r = first; r < at_most(first + 4, block.rows); ++r) {
      float* o = block.o + r * int64_t{x.padded} + d;
      const float* scales = block.weight_scale[r] + run;
      const float correction = block.correction[r];
      const int32_t* tiles = products + r * 16;
      if (left >= 64) {
        add_products<kDots, 4>(o, tiles, scales, correction, run == 0);
      } else {
        for (int w = 0; 16 * w < left; ++w) {
          add_products<kDots, 1>(o + 16 * w, tiles + w * Values::kProducts * kTileInts, scales, correction, run == 0);
        }
      }
    }
  });
}

// q as bytes: kBytes a plane, kWide hi and then lo of a row, kWords hi and lo of each run of 32 dims.
template <Dots kDots>
HVL_HOT_LOOP static void start_tiles(AttentionBlock& block, TileRows& rows, int32_t head_dim, float scale, float limit, bool first_part) {
  const int32_t padded = kv_padded(head_dim);
  for (int r = 0; r < kAttentionQueryBlock; ++r) {
    Vec16 top = vec::zero();
    const float* x = block.q_row[r];
    if (r < block.rows) {
      for (int32_t d = 0; d + 16 <= head_dim; d += 16) top = max_bits(top, vec::load(x + d));
      if (head_dim % 16 != 0) top = max_bits(top, vec::load_n(x + head_dim / 16 * 16, head_dim % 16));
    }
    vec::store(rows.most[r], top);
  }
  // The rule of row_scale for all rows at once.
  alignas(64) float inverse[16];
  const __m512 m = across<Combine::kMaxInts>(rows.most).v;
  const __mmask16 good = _mm512_cmp_ps_mask(m, _mm512_set1_ps(1e-30f), _CMP_GE_OQ) & _mm512_cmp_ps_mask(m, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  const __mmask16 bad = _mm512_cmp_ps_mask(m, _mm512_set1_ps(__builtin_inff()), _CMP_NLT_UQ);
  _mm512_store_ps(inverse, _mm512_maskz_div_ps(good, _mm512_set1_ps(limit), m));
  const __m512 s_q = _mm512_mask_mov_ps(_mm512_maskz_div_ps(good, m, _mm512_set1_ps(limit)), bad, _mm512_set1_ps(__builtin_nanf("")));
  vec::store(block.score_scale, vec::mul({s_q}, vec::set1(scale)));
  for (int r = 0; r < block.rows; ++r) {
    const float* x = block.q_row[r];
    uint8_t* out = block.q + r * block.q_stride;
    const RowScale q = {0.0f, inverse[r]};
    for (int32_t d = 0; d < head_dim; d += 16) {
      const Ints values = query_integers(x, d, head_dim, q);
      if constexpr (kDots == Dots::kBytes) {
        vec::store_bytes(out + d, values);
      } else if constexpr (kDots == Dots::kWide) {
        vec::store_bytes(out + d, {_mm512_srai_epi32(values.v, 8)});
        vec::store_bytes(out + padded + d, values);
      } else if (d % 32 == 0) {
        const Ints more = head_dim - d > 16 ? query_integers(x, d + 16, head_dim, q) : vec::ints_zero();
        vec::ints_store(out + 2 * d, {byte_planes<kDots>(values.v, more.v)});
      }
    }
    start_row(block, r, head_dim, first_part);
  }
  for (int r = block.rows; r < kAttentionQueryBlock; ++r) block.maximum[r] = block.sum[r] = 0.0f;
}

struct BlockGroup {
  int count = 0;
  AttentionBlock blocks[kAttentionGroup];
};

template <Dots kDots>
HVL_VEC void attend_group(const AttentionArgs& args, BlockGroup& group, int32_t kv_head, Limits limits) {
  const int32_t head_dim = args.cache.head_dim, padded = kv_padded(head_dim);
  KvSide k, v;
  kv_sides(args, kv_head, k, v);
  float* scores = reinterpret_cast<float*>(args.scratch);
  uint8_t* at = reinterpret_cast<uint8_t*>(scores + kAttentionQueryBlock * kAttentionChunk);
  const int64_t q_stride = attention_query_bytes(head_dim);
  int32_t keys = 0;
  TileRows rows;
  for (int i = 0; i < group.count; ++i) {
    AttentionBlock& block = group.blocks[i];
    block.scores = scores;
    block.q = at;  // a tile may read 48 bytes behind the last row: o is there
    block.q_stride = q_stride;
    at += kAttentionQueryBlock * q_stride;
    block.o = reinterpret_cast<float*>(at);
    at += kAttentionQueryBlock * padded * sizeof(float);
    start_tiles<kDots>(block, rows, head_dim, args.scale, limits.q, args.first);
    const int32_t seen = most_keys(block, 0, block.rows, 0, INT32_MAX);
    if (seen > keys) keys = seen;
  }
  const Columns columns = {at, at + kAttentionChunk * q_stride};
  for (int32_t chunk = 0; chunk < keys; chunk += kAttentionChunk) {
    lay_columns<kDots>(columns, k, v, chunk, key_blocks(at_most(keys - chunk, kAttentionChunk)), padded);
    for (int i = 0; i < group.count; ++i) {
      AttentionBlock& block = group.blocks[i];
      const int blocks = key_blocks(most_keys(block, 0, block.rows, chunk, kAttentionChunk));
      if (blocks == 0) continue;
      for (int r = 0; r < kAttentionQueryBlock; ++r) vec::store(rows.most[r], vec::set1(block.maximum[r]));
      score_keys<kDots>(block, rows, {&k, &columns, block.q, q_stride, padded, chunk, blocks});
      const int end = (blocks + kSliceBlocks - 1) / kSliceBlocks * kSlice;
      softmax_rows<kDots>(block, rows, v, chunk, args.first && chunk == 0, limits.w, end);
      add_values<kDots>(block, {&v, &columns, reinterpret_cast<const uint8_t*>(scores), kScoreBytes, padded, chunk, blocks});
    }
  }
  for (int i = 0; i < group.count; ++i) finish_block(group.blocks[i], head_dim, args.last);
}

// attention_body with tiles, where they pay.
HVL_VEC void tile_attention_body(const AttentionArgs& args, int32_t begin, int32_t end) {
  const int32_t units_per_kv = attention_units(args.rows, args.heads) / args.cache.kv_heads;
  bool tiles = false;
  BlockGroup group;
  for (int32_t unit = begin; unit < end;) {
    const int32_t kv_head = unit / units_per_kv;
    unit = next_block(args, group.blocks[0], unit, end);
    if (group.blocks[0].rows < kTileRows || args.cache.head_dim < kTileDims) {
      attend_block(args, group.blocks[0], kv_head);
      continue;
    }
    group.count = 1;
    while (group.count < kAttentionGroup && unit < end && unit / units_per_kv == kv_head) {
      unit = next_block(args, group.blocks[group.count++], unit, end);
    }
    if (!tiles) tiles_begin();
    tiles = true;
    if (args.cache.bits == 16) {
      attend_group<Dots::kWords>(args, group, kv_head, {8191, 8191});
    } else if (args.activation_bits == 16) {
      attend_group<Dots::kWide>(args, group, kv_head, {32767, 32767});
    } else {
      attend_group<Dots::kBytes>(args, group, kv_head, {127, 255});
    }
  }
  if (tiles) tiles_end();
}

}  // namespace
}  // namespace hvl

// Attention of blocks of query rows over a cache of bytes with tiles (AMX): a product of 16 rows with 16 keys or dims over 64 bytes is one
// instruction. (Over a cache of words the four products of byte planes, their stores and sums take longer than the word dots of AVX-512.)
//
// A key block of K is the right side of such a product as it lies in the cache (a lane a key, four dims), and so are the values of a block (a
// lane a dim, four keys), of which two are laid together for a group of blocks of the same kv head, since a run of keys is two blocks. Bytes of
// q or weights are the left side; words (kWide) as two planes, x = 256 hi + lo, hi of q being signed.
//
// What bounds it: the vector work (tile_softmax.h), and products and their stores, 16 cycles each, which overlap with that less than they should:
// a store of a tile takes some 20 of its instructions.
#pragma once

#include "kernels/attention/tile_softmax.h"
#include "kernels/attention/tiles.h"

namespace hvl {
namespace {

inline constexpr int64_t kTileBytes = 1024;
inline constexpr int kTileRows = 4;   // query rows from which tiles pay: they always take 16

// Right sides of a chunk, in scratch.
struct Columns {
  uint8_t* keys;    // dims of no whole tile: [key block][16 rows]
  uint8_t* values;  // [run][16 dims][8 rows]
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

// Of a chunk's key blocks. A block of values that is not there has weights of 0.
HVL_HOT_LOOP static void lay_columns(const Columns& columns, const KvSide& k, const KvSide& v, int32_t start, int blocks, int32_t padded) {
  const int32_t sixteens = padded / 16, whole = padded / 64 * 64;
  const int64_t step = int64_t{padded} * 4;  // of values: from a lane's keys to the next
  for (int b = 0; b < blocks; ++b) {
    const uint8_t *keys = k.values(start + 16 * b), *values = v.values(start + 16 * b);
    tiles_stay_awake();
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

// Sums of tiles go through four registers in turn: two products a slot, by its parity.
constexpr int sum_of(int parity, int product) { return 2 * parity + product; }

// Of q with one or two key blocks from b on (kBytes), of both planes of q with one (kWide), over all dims.
template <Dots kDots, int kParity>
HVL_VEC void multiply_keys(const Operands& x, int b) {
  constexpr int kFirst = sum_of(kParity, 0), kSecond = sum_of(kParity, 1);
  const uint8_t* keys = x.k->values(x.start) + b * x.k->block_bytes;
  const uint8_t* rest = x.columns->keys + b * kTileBytes;
  const bool two = b + 1 < x.blocks;
  tile_zero<kFirst>();
  tile_zero<kSecond>();
  for (int32_t d = 0; d < x.padded; d += 64) {  // what lies behind a row of q meets zeros
    const bool whole = d + 64 <= x.padded;
    tile_load<kA>(x.left + d, x.stride);
    tile_load<kB>(whole ? keys + d * 16 : rest, 64);
    tile_dots<true, kFirst, kA, kB>();
    if constexpr (kDots == Dots::kWide) {
      tile_load<kA>(x.left + x.padded + d, x.stride);
      tile_dots<false, kSecond, kA, kB>();
    } else if (two) {
      tile_load<kB>(whole ? keys + x.k->block_bytes + d * 16 : rest + kTileBytes, 64);
      tile_dots<true, kSecond, kA, kB>();
    }
  }
}

// Products with keys. A slot is a key block (kBytes: two).
template <Dots kDots>
struct KeyProducts {
  Operands x;

  template <int kParity>
  __attribute__((always_inline)) void multiply(int slot) const {
    multiply_keys<kDots, kParity>(x, kDots == Dots::kBytes ? 2 * slot : slot);
  }
};

// Products with values. A slot is a run (kBytes: two) and 16 dims.
template <Dots kDots>
struct ValueProducts {
  static constexpr int kSlotRuns = kDots == Dots::kBytes ? 2 : 1;
  Operands x;
  int sixteens;  // of dims

  template <int kParity>
  __attribute__((always_inline)) void multiply(int slot) const {
    const int step = slot / sixteens;
    const uint8_t* left = x.left + step * 64;
    const uint8_t* right = x.columns->values + (slot + step * (kSlotRuns - 1) * sixteens) * (kTileBytes / 2);
    constexpr int kFirst = sum_of(kParity, 0), kSecond = sum_of(kParity, 1);
    tile_zero<kFirst>();
    tile_load<kHalfA>(left, x.stride);
    tile_load<kHalfB>(right, 64);
    tile_dots<false, kFirst, kHalfA, kHalfB>();
    tile_zero<kSecond>();
    tile_load<kHalfA>(left + 32, x.stride);  // lo, or the next run's: of weights 0, where there is none
    if constexpr (kDots == Dots::kBytes) tile_load<kHalfB>(right + sixteens * (kTileBytes / 2), 64);
    tile_dots<false, kSecond, kHalfA, kHalfB>();
  }
};

template <int kParity>
HVL_VEC void store_products(int32_t* to) {
  tile_store<sum_of(kParity, 0)>(to, 64);
  tile_store<sum_of(kParity, 1)>(to + kTileInts, 64);
}

// One slot: its products are begun, those of the slot before stored, and those of the one before that used: what tiles stored is slow to read
// before it is in the cache.
template <int kParity, typename Products, typename Use>
HVL_VEC void advance(const Products& products, int slot, int slots, int32_t* (&ring)[3], Use& use) {
  if (slot < slots) products.template multiply<kParity>(slot);
  if (slot >= 1 && slot <= slots) store_products<1 - kParity>(ring[2]);
  if (slot >= 2) use(slot - 2, static_cast<const int32_t*>(ring[1]));
  int32_t* const oldest = ring[0];
  ring[0] = ring[1];
  ring[1] = ring[2];
  ring[2] = oldest;
}

// All slots of products, and use(slot, products) of each.
template <typename Products, typename Use>
HVL_VEC void stream(const Products& products, int slots, Use&& use) {
  alignas(64) int32_t stored[3][2 * kTileInts];
  int32_t* ring[3] = {stored[0], stored[1], stored[2]};
  for (int slot = 0; slot < slots + 2; slot += 2) {
    advance<0>(products, slot, slots, ring, use);
    if (slot + 1 < slots + 2) advance<1>(products, slot + 1, slots, ring, use);
  }
}

// Scores of the rows with the keys of a chunk.
template <Dots kDots>
HVL_HOT_LOOP static void score_keys(AttentionBlock& block, TileRows& rows, const Operands& operands) {
  const Operands x = operands;
  const KvSide k = *x.k;
  constexpr int kSlotBlocks = kDots == Dots::kBytes ? 2 : 1;
  const int slots = (x.blocks + kSlotBlocks - 1) / kSlotBlocks;
  stream(KeyProducts<kDots>{x}, slots, [&](int slot, const int32_t* products) __attribute__((always_inline)) {
    to_scores<kDots, kSlotBlocks>(block, rows, products, k, x.start, slot * kSlotBlocks * kKvKeyBlock);
  });
}

// o of the rows' 16 dims at `o`, in the first step of a chunk scaled to the new maximum, then += the products with the values of its runs.
template <Dots kDots, bool kFirst>
HVL_VEC void add_products(const AttentionBlock& block, float* o, int64_t padded, const int32_t* products, int run) {
  const float* scales = block.weight_scale[0] + run;
  for (int r = 0; r < block.rows; ++r, o += padded, products += 16, scales += kRuns) {
    Vec16 sum = vec::load(o);
    if (kFirst) sum = vec::mul(sum, vec::set1(block.correction[r]));
HVL_UNROLL
    for (int i = 0; i < ValueProducts<kDots>::kSlotRuns; ++i) {
      sum = vec::fma(whole_dot<kDots>(products + i * kTileInts), vec::set1(scales[i]), sum);
    }
    vec::store(o, sum);
  }
}

template <Dots kDots>
HVL_HOT_LOOP static void add_values(AttentionBlock& block, const Operands& operands, const uint8_t* next, int64_t next_bytes) {
  const Operands x = operands;
  using Values = ValueProducts<kDots>;
  constexpr int kStepBlocks = Values::kSlotRuns * kAttentionRun / kKvKeyBlock;
  const int sixteens = x.padded / 16, slots = (x.blocks + kStepBlocks - 1) / kStepBlocks * sixteens;
  const int ahead = static_cast<int>((next_bytes + slots * 64 - 1) / (slots * 64));  // lines of what comes next, a slot
  stream(Values{x, sixteens}, slots, [&](int slot, const int32_t* products) __attribute__((always_inline)) {
    const int step = slot / sixteens;
    for (int i = 0; i < ahead; ++i) _mm_prefetch(next + (int64_t{slot} * ahead + i) * 64, _MM_HINT_T0);
    float* o = block.o + (slot - step * sixteens) * 16;
    if (step == 0) {
      add_products<kDots, true>(block, o, x.padded, products, 0);
    } else {
      add_products<kDots, false>(block, o, x.padded, products, step * Values::kSlotRuns);
    }
  });
}

// q as bytes: kBytes a plane, kWide hi and then lo of a row.
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
    if (r % 4 == 0) tiles_stay_awake();
    for (int32_t d = 0; d < head_dim; d += 16) {
      const Ints values = query_integers(x, d, head_dim, q);
      if constexpr (kDots == Dots::kBytes) {
        vec::store_bytes(out + d, values);
      } else {
        vec::store_bytes(out + d, {_mm512_srai_epi32(values.v, 8)});
        vec::store_bytes(out + padded + d, values);
      }
    }
    start_row(block, r, head_dim, first_part);
  }
  for (int r = block.rows; r < kAttentionQueryBlock; ++r) block.maximum[r] = block.sum[r] = 0.0f;
}

// Rows are pages apart, where the processor does not see what comes next.
// `further`: floats from each row on; nothing need be there.
template <typename Row>
HVL_VEC void prefetch_rows(const Row& row, int count, int64_t further, int32_t dims) {
  for (int r = 0; r < count; ++r) {
    const intptr_t at = reinterpret_cast<intptr_t>(row[r]) + further * int64_t{sizeof(float)};
    for (int32_t d = 0; d < dims; d += 16) _mm_prefetch(reinterpret_cast<const void*>(at + d * int64_t{sizeof(float)}), _MM_HINT_T0);
  }
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
  const int64_t q_stride = 2 * int64_t{padded};
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
  const Columns columns = {at, at + kAttentionChunk * 64};
  for (int32_t chunk = 0; chunk < keys; chunk += kAttentionChunk) {
    lay_columns(columns, k, v, chunk, key_blocks(at_most(keys - chunk, kAttentionChunk)), padded);
    for (int i = 0; i < group.count; ++i) {
      AttentionBlock& block = group.blocks[i];
      const int blocks = key_blocks(most_keys(block, 0, block.rows, chunk, kAttentionChunk));
      if (blocks == 0) continue;
      if (most_keys(block, 0, block.rows, 0, INT32_MAX) - chunk <= kAttentionChunk) {  // its last
        prefetch_rows(block.out_row, block.rows, 0, head_dim);
        prefetch_rows(block.q_row, block.rows, args.q_stride * kAttentionQueryBlock * kAttentionGroup, head_dim);
      }
      rows.least = block.visible[0];
      for (int r = 1; r < block.rows; ++r) rows.least = at_most(rows.least, block.visible[r]);
      for (int r = 0; r < kAttentionQueryBlock; ++r) vec::store(rows.most[r], vec::set1(block.maximum[r]));
      score_keys<kDots>(block, rows, {&k, &columns, block.q, q_stride, padded, chunk, blocks});
      const int end = (blocks * kKvKeyBlock + kSlice - 1) / kSlice * kSlice;
      const int64_t value_bytes = int64_t{blocks} * kKvKeyBlock * padded;
      softmax_rows<kDots>(block, rows, v, chunk, args.first && chunk == 0, limits.w, end, columns.values, value_bytes);
      add_values<kDots>(block, {&v, &columns, reinterpret_cast<const uint8_t*>(scores), kScoreBytes, padded, chunk, blocks},
                        k.values(chunk), blocks * k.block_bytes);
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
    if (args.cache.bits == 16 || group.blocks[0].rows < kTileRows || args.cache.head_dim < kAttentionTileDims) {
      attend_block(args, group.blocks[0], kv_head);
      continue;
    }
    group.count = 1;
    while (group.count < kAttentionGroup && unit < end && unit / units_per_kv == kv_head) {
      unit = next_block(args, group.blocks[group.count++], unit, end);
    }
    if (!tiles) tiles_begin();
    tiles = true;
    if (args.activation_bits == 16) {
      attend_group<Dots::kWide>(args, group, kv_head, {32767, 32767});
    } else {
      attend_group<Dots::kBytes>(args, group, kv_head, {127, 255});
    }
  }
  if (tiles) tiles_end();
}

}  // namespace
}  // namespace hvl

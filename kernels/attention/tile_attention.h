// Attention of blocks of query rows with tiles (AMX): a product of 16 rows with 16 keys or dims over 64 bytes is one instruction.
//
// A key block of K is the right side of such a product as it lies in the cache (a lane a key, four dims), and so are the values of a block (a
// lane a dim, four keys), of which two are laid together, since a run of keys is two blocks. Bytes of q or weights are the left side. Words are
// taken apart into byte planes: x = 256 hi + lo. Of words with bytes (kWide) hi is signed and lo is not; of words with words (kWords) both are
// signed, and a row of the left side has hi and lo of a run side by side, the right side lo above hi, so that both middle products are one.
// What is laid out anew serves a group of blocks of the same kv head.
//
// A product takes 16 cycles and its store as long, in units of their own; they are a slot or two ahead of the vector work on what they stored. What bounds it is then that vector work (tile_softmax.h), and o: two instructions for a run and 16 dims of a row.
#pragma once

#include "kernels/attention/tile_softmax.h"
#include "kernels/attention/tiles.h"

namespace hvl {
namespace {

inline constexpr int64_t kTileBytes = 1024;
inline constexpr int kTileRows = 4;   // query rows from which tiles pay: they always take 16
inline constexpr int kTileDims = 64;  // and least dims of a head

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
    tiles_stay_awake();
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

// Sums of tiles go through four registers in turn, by the parity of a slot and the number of the product in it.
constexpr int sum_of(int parity, int products, int product) { return (parity * products + product) % kSums; }

// Middle, high and low products of a run's left side with a tile of lo above hi.
template <int kParity>
HVL_VEC void multiply_words(const uint8_t* left, int64_t stride, const uint8_t* right) {
  constexpr int kMiddle = sum_of(kParity, 3, 0), kHigh = sum_of(kParity, 3, 1), kLow = sum_of(kParity, 3, 2);
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

// Of q with one or two key blocks from b on (kBytes), of both planes of q with one (kWide), over all dims.
template <Dots kDots, int kParity>
HVL_VEC void multiply_keys(const Operands& x, int b) {
  constexpr int kFirst = sum_of(kParity, 2, 0), kSecond = sum_of(kParity, 2, 1);
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

// Products with keys. A slot is a key block (kBytes: two), kWords: and a run of its dims.
template <Dots kDots>
struct KeyProducts {
  static constexpr int kProducts = kDots == Dots::kWords ? 3 : 2;
  Operands x;
  int runs;  // of dims

  template <int kParity>
  __attribute__((always_inline)) void multiply(int slot) const {
    if constexpr (kDots == Dots::kWords) {
      multiply_words<kParity>(x.left + slot % runs * 64, x.stride, x.columns->keys + slot * kTileBytes);
    } else {
      multiply_keys<kDots, kParity>(x, kDots == Dots::kBytes ? 2 * slot : slot);
    }
  }
};

// Products with values. A slot is a run (kBytes: two) and 16 dims.
template <Dots kDots>
struct ValueProducts {
  static constexpr int kProducts = kDots == Dots::kWords ? 3 : 2, kSlotRuns = kDots == Dots::kBytes ? 2 : 1;
  static constexpr int64_t kColumnBytes = kDots == Dots::kWords ? kTileBytes : kTileBytes / 2;
  Operands x;
  int sixteens;  // of dims

  template <int kParity>
  __attribute__((always_inline)) void multiply(int slot) const {
    const int step = slot / sixteens;
    const uint8_t* left = x.left + step * 64;
    const uint8_t* right = x.columns->values + (slot + step * (kSlotRuns - 1) * sixteens) * kColumnBytes;
    if constexpr (kDots == Dots::kWords) {
      multiply_words<kParity>(left, x.stride, right);
    } else {
      constexpr int kFirst = sum_of(kParity, 2, 0), kSecond = sum_of(kParity, 2, 1);
      tile_zero<kFirst>();
      tile_load<kHalfA>(left, x.stride);
      tile_load<kHalfB>(right, 64);
      tile_dots<false, kFirst, kHalfA, kHalfB>();
      tile_zero<kSecond>();
      tile_load<kHalfA>(left + 32, x.stride);  // lo, or the next run's: of weights 0, where there is none
      if constexpr (kDots == Dots::kBytes) tile_load<kHalfB>(right + sixteens * kColumnBytes, 64);
      tile_dots<false, kSecond, kHalfA, kHalfB>();
    }
  }
};

template <int kParity, int kProducts>
HVL_VEC void store_products(int32_t* to) {
  tile_store<sum_of(kParity, kProducts, 0)>(to, 64);
  tile_store<sum_of(kParity, kProducts, 1)>(to + kTileInts, 64);
  if constexpr (kProducts > 2) tile_store<sum_of(kParity, kProducts, 2)>(to + 2 * kTileInts, 64);
}

// One slot: its products are begun, those of the slot before stored (three do not leave it enough registers: they are stored first), and
// those of the one before that used: what tiles stored is slow to read before it is in the cache.
template <int kParity, typename Products, typename Use>
HVL_VEC void advance(const Products& products, int slot, int slots, int32_t* (&ring)[3], Use& use) {
  constexpr bool kStoreFirst = Products::kProducts > 2;
  const bool begun = slot < slots, before = slot >= 1 && slot <= slots;
  if (kStoreFirst && before) store_products<1 - kParity, Products::kProducts>(ring[2]);
  if (begun) products.template multiply<kParity>(slot);
  if (!kStoreFirst && before) store_products<1 - kParity, Products::kProducts>(ring[2]);
  if (slot >= 2) use(slot - 2, static_cast<const int32_t*>(ring[1]));
  int32_t* const oldest = ring[0];
  ring[0] = ring[1];
  ring[1] = ring[2];
  ring[2] = oldest;
}

// All slots of products, and use(slot, products) of each.
template <typename Products, typename Use>
HVL_VEC void stream(const Products& products, int slots, Use&& use) {
  alignas(64) int32_t stored[3][Products::kProducts * kTileInts];
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
  const int runs = kDots == Dots::kWords ? (x.padded + 31) / 32 : 1;
  const int slots = (x.blocks + kSlotBlocks - 1) / kSlotBlocks * runs;
  stream(KeyProducts<kDots>{x, runs}, slots, [&](int slot, const int32_t* products) __attribute__((always_inline)) {
    const int run = slot % runs;
    to_scores<kDots, kSlotBlocks>(block, rows, products, k, x.start, slot / runs * kSlotBlocks * kKvKeyBlock, run == 0, run == runs - 1);
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
      sum = vec::fma(whole_dot<kDots>(products + i * kTileInts, kTileInts), vec::set1(scales[i]), sum);
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
    if (r % 4 == 0) tiles_stay_awake();
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

// Rows are pages apart, where the processor does not see what comes next.
template <typename Row>
HVL_VEC void prefetch_rows(const Row& row, int count, int32_t dims) {
  for (int r = 0; r < count; ++r) {
    for (int32_t d = 0; d < dims; d += 16) _mm_prefetch(row[r] + d, _MM_HINT_T0);
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
  const int64_t q_stride = attention_query_bytes(head_dim);
  int32_t keys = 0;
  TileRows rows;
  for (int i = 0; i < group.count; ++i) {
    AttentionBlock& block = group.blocks[i];
    if (i + 1 < group.count) prefetch_rows(group.blocks[i + 1].q_row, group.blocks[i + 1].rows, head_dim);
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
      rows.least = block.visible[0];
      for (int r = 1; r < block.rows; ++r) rows.least = at_most(rows.least, block.visible[r]);
      for (int r = 0; r < kAttentionQueryBlock; ++r) vec::store(rows.most[r], vec::set1(block.maximum[r]));
      score_keys<kDots>(block, rows, {&k, &columns, block.q, q_stride, padded, chunk, blocks});
      const int end = (blocks + kSliceBlocks - 1) / kSliceBlocks * kSlice;
      const int64_t value_bytes = int64_t{blocks} * kKvKeyBlock * padded * (kDots == Dots::kWords ? 2 : 1);
      softmax_rows<kDots>(block, rows, v, chunk, args.first && chunk == 0, limits.w, end, columns.values, value_bytes);
      add_values<kDots>(block, {&v, &columns, reinterpret_cast<const uint8_t*>(scores), kScoreBytes, padded, chunk, blocks},
                        kDots == Dots::kWords ? columns.keys : k.values(chunk), blocks * k.block_bytes);
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

// Attention of a block of query rows with tiles (AMX): a product of 16 rows with 16 keys or dims over 64 bytes is one instruction.
//
// A key block of K is the right side of such a product as it lies in the cache (a lane a key, four dims), and so are the values of a block (a
// lane a dim, four keys), two of which are laid together, since a run of keys is two blocks. Bytes of q or weights are the left side. Words are
// taken apart into byte planes: x = 256 hi + lo. Of bytes with words (kWide) hi is signed and lo is not; of words with words (kWords) both are
// signed, and a row of the left side has hi and lo of a run side by side, the right side lo above hi, so that both middle products are one.
#pragma once

#include "kernels/attention/tile_softmax.h"
#include "kernels/attention/tiles.h"

namespace hvl {
namespace {

inline constexpr int64_t kTileBytes = 1024;
inline constexpr int64_t kPlaneStep = kSliceBlocks * kTileInts;  // from a plane of products to the next
inline constexpr int kTileRows = 4;                              // query rows from which tiles pay: they always take 16
inline constexpr int kTileDims = 64;                             // and least dims of a head

// Stored products of a slice: for each plane, a tile for each of four key blocks or sixteens of dims.
struct alignas(64) Products {
  int32_t ints[3 * kPlaneStep];
};

// Right sides that are laid out anew.
struct alignas(64) Columns {
  uint8_t bytes[kSliceBlocks * kTileBytes];
};

// The products of kLeft (loaded) with `count` tiles from `right` on, `step` bytes apart, to `to`. kMore: added to the sums of tiles, not stored.
template <bool kSigned, int kLeft, int kRight, int kIndex = 0>
HVL_VEC void add_products(const uint8_t* right, int64_t step, int64_t stride, int count) {
  if constexpr (kIndex < kSums) {
    if (kIndex >= count) return;
    tile_load<kRight>(right + kIndex * step, stride);
    tile_dots<kSigned, kIndex, kLeft, kRight>();
    add_products<kSigned, kLeft, kRight, kIndex + 1>(right, step, stride, count);
  }
}

HVL_VEC void zero_sums() {
  tile_zero<kSum0>();
  tile_zero<kSum1>();
  tile_zero<kSum2>();
  tile_zero<kSum3>();
}

HVL_VEC void store_sums(int32_t* to, int count) {
  tile_store<kSum0>(to, 64);
  if (count > 1) tile_store<kSum1>(to + kTileInts, 64);
  if (count > 2) tile_store<kSum2>(to + 2 * kTileInts, 64);
  if (count > 3) tile_store<kSum3>(to + 3 * kTileInts, 64);
}

// Two vectors of two words a lane (x0 x1 and x2 x3) to four bytes a lane, x0 x2 x1 x3: lo = -128 .. 127 and hi.
HVL_VEC void split_words(__m512i a, __m512i b, uint8_t* low, uint8_t* high) {
  const __m512i half = _mm512_set1_epi16(128), even = _mm512_set1_epi16(0xff);
  constexpr int kChoose = 0xca;  // of the bits of the second or third, by the first
  a = _mm512_xor_si512(_mm512_add_epi16(a, half), half);
  b = _mm512_xor_si512(_mm512_add_epi16(b, half), half);
  vec::ints_store(low, {_mm512_ternarylogic_epi32(even, a, _mm512_slli_epi16(b, 8), kChoose)});
  vec::ints_store(high, {_mm512_ternarylogic_epi32(even, _mm512_srli_epi16(a, 8), b, kChoose)});
}

// Products of a run's left side (rows of hi and lo, `stride` bytes apart) with `count` tiles of lo above hi.
HVL_VEC void word_products(const uint8_t* left, int64_t stride, const Columns& columns, int count, Products& out) {
  zero_sums();
  tile_load<kA>(left, stride);
  add_products<true, kA, kB>(columns.bytes, kTileBytes, 64, count);
  store_sums(out.ints, count);
  zero_sums();
  tile_load<kHalfA>(left, stride);
  add_products<true, kHalfA, kHalfB>(columns.bytes + kTileBytes / 2, kTileBytes, 64, count);
  store_sums(out.ints + kPlaneStep, count);
  zero_sums();
  tile_load<kHalfA>(left + kAttentionRun, stride);
  add_products<true, kHalfA, kHalfB>(columns.bytes, kTileBytes, 64, count);
  store_sums(out.ints + 2 * kPlaneStep, count);
}

// Products of a plane of q with `blocks` key blocks over all dims.
template <bool kSigned>
HVL_VEC void key_products(const uint8_t* q, int64_t q_stride, const uint8_t* k, int64_t block_bytes, int32_t padded, const Columns& rest,
                          int blocks, int32_t* out) {
  zero_sums();
  int32_t d = 0;
  for (; d + 64 <= padded; d += 64) {
    tile_load<kA>(q + d, q_stride);
    add_products<kSigned, kA, kB>(k + d * 16, block_bytes, 64, blocks);
  }
  if (d < padded) {
    tile_load<kA>(q + d, q_stride);  // what lies behind the row meets zeros
    add_products<kSigned, kA, kB>(rest.bytes, kTileBytes, 64, blocks);
  }
  store_sums(out, blocks);
}

// Dots of the rows with the keys of a slice, to scores.
template <Dots kDots>
HVL_HOT_LOOP static void score_slice(AttentionBlock& block, TileRows& rows, const KvSide& k, int32_t padded, int32_t start, int base, int blocks) {
  Products products;
  Columns columns;
  const uint8_t* keys = k.values(start + base);
  if constexpr (kDots == Dots::kWords) {
    for (int32_t d = 0; d < padded; d += 32) {
      const int steps = at_most(padded - d, 32) / 4;
      for (int w = 0; w < blocks; ++w) {
        uint8_t* to = columns.bytes + w * kTileBytes;
        const uint8_t* from = keys + w * k.block_bytes + d * 32;
        for (int i = 0; i < 8; ++i, to += 64, from += 128) {
          if (i < steps) {
            split_words(vec::ints_load(from).v, vec::ints_load(from + 64).v, to, to + kTileBytes / 2);
          } else {
            vec::ints_store(to, vec::ints_zero());
            vec::ints_store(to + kTileBytes / 2, vec::ints_zero());
          }
        }
      }
      word_products(block.q + 2 * d, block.q_stride, columns, blocks, products);
      if (d + 32 < padded) {
        add_part<kDots>(block, products.ints, base, blocks, d == 0);
      } else {
        to_scores<kDots>(block, rows, products.ints, k, start, base, blocks, d == 0);
      }
    }
  } else {
    const int32_t whole = padded / 64 * 64;
    for (int w = 0; w < (padded > whole ? blocks : 0); ++w) {  // dims of no whole tile
      for (int i = 0; i < 16; ++i) {
        const bool there = whole + 4 * i < padded;
        vec::ints_store(columns.bytes + w * kTileBytes + i * 64,
                        there ? vec::ints_load(keys + w * k.block_bytes + (whole + 4 * i) * 16) : vec::ints_zero());
      }
    }
    key_products<true>(block.q, block.q_stride, keys, k.block_bytes, padded, columns, blocks, products.ints);
    if constexpr (kDots == Dots::kWide) {
      key_products<false>(block.q + padded, block.q_stride, keys, k.block_bytes, padded, columns, blocks, products.ints + kPlaneStep);
    }
    to_scores<kDots>(block, rows, products.ints, k, start, base, blocks, true);
  }
}

// o of 16 * kWide dims from d on += the values of a run, of which `blocks` are there, with weights `left` (bytes of scores) and scales of
// `run`. first: o is first scaled to the new maximum.
template <Dots kDots, int kWide>
HVL_VEC void value_run(AttentionBlock& block, const uint8_t* left, const uint8_t* v, int64_t block_bytes, int32_t padded, int32_t d, int blocks,
                       int run, bool first) {
  Products products;
  Columns columns;
  const int64_t step = int64_t{padded} * 4;
  for (int b = 0; b < blocks; ++b, v += block_bytes) {  // of a block that is not there weights are 0
    const uint8_t* from = v + d * 4;
    for (int i = 0; i < 4; ++i) {
HVL_UNROLL
      for (int w = 0; w < kWide; ++w) {
        if constexpr (kDots == Dots::kWords) {
          uint8_t* to = columns.bytes + w * kTileBytes + (4 * b + i) * 64;
          const uint8_t* pair = from + 2 * i * step + w * 64;
          split_words(vec::ints_load(pair).v, vec::ints_load(pair + step).v, to, to + kTileBytes / 2);
        } else {
          vec::ints_store(columns.bytes + w * kTileBytes / 2 + (4 * b + i) * 64, vec::ints_load(from + i * step + w * 64));
        }
      }
    }
  }
  if constexpr (kDots == Dots::kWords) {
    word_products(left, kScoreBytes, columns, kWide, products);
  } else {
HVL_UNROLL
    for (int plane = 0; plane < planes(kDots); ++plane) {
      zero_sums();
      tile_load<kHalfA>(left + plane * kAttentionRun, kScoreBytes);
      add_products<false, kHalfA, kHalfB>(columns.bytes, kTileBytes / 2, 64, kWide);
      store_sums(products.ints + plane * kPlaneStep, kWide);
    }
  }
  for (int r = 0; r < block.rows; ++r) {
    float* o = block.o + r * int64_t{padded} + d;
    const Vec16 factor = vec::set1(block.weight_scale[r][run]), correction = vec::set1(block.correction[r]);
HVL_UNROLL
    for (int w = 0; w < kWide; ++w) {
      Vec16 sum = vec::load(o + 16 * w);
      if (first) sum = vec::mul(sum, correction);
      vec::store(o + 16 * w, vec::fma(whole_dot<kDots>(products.ints + w * kTileInts + r * 16, kPlaneStep), factor, sum));
    }
  }
}

// o, scaled to the new maxima, and over the runs of the chunk's `blocks` key blocks.
template <Dots kDots>
HVL_HOT_LOOP static void add_values(AttentionBlock& block, const KvSide& v, int32_t padded, int32_t start, int blocks) {
  constexpr int kRunBlocks = kAttentionRun / kKvKeyBlock, kRunBytes = kAttentionRun * (kDots == Dots::kBytes ? 1 : 2);
  for (int run = 0; run * kRunBlocks < blocks; ++run) {
    const uint8_t* left = reinterpret_cast<const uint8_t*>(block.scores) + run * kRunBytes;
    const uint8_t* values = v.values(start + run * kAttentionRun);
    const int there = at_most(blocks - run * kRunBlocks, kRunBlocks);
    int32_t d = 0;
    for (; d + 64 <= padded; d += 64) value_run<kDots, 4>(block, left, values, v.block_bytes, padded, d, there, run, run == 0);
    for (; d < padded; d += 16) value_run<kDots, 1>(block, left, values, v.block_bytes, padded, d, there, run, run == 0);
  }
}

// q as bytes: kBytes a plane, kWide hi and then lo of a row, kWords hi and lo of each run of 32 dims.
template <Dots kDots>
HVL_VEC void start_tiles(AttentionBlock& block, int32_t head_dim, float scale, float limit, bool first_part) {
  const int32_t padded = kv_padded(head_dim);
  for (int r = 0; r < block.rows; ++r) {
    const float* x = block.q_row[r];
    uint8_t* out = block.q + r * block.q_stride;
    const RowScale q = row_scale(row_top(x, head_dim), limit);
    block.score_scale[r] = q.scale * scale;
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

template <Dots kDots>
HVL_VEC void attend_tiles(const AttentionArgs& args, AttentionBlock& block, int32_t kv_head, Limits limits) {
  const int32_t head_dim = args.cache.head_dim, padded = kv_padded(head_dim);
  KvSide k, v;
  kv_sides(args, kv_head, k, v);
  TileRows rows;
  // A tile may read 48 bytes behind the last row of q: o is there.
  block.q = reinterpret_cast<uint8_t*>(block.scores + kAttentionQueryBlock * kAttentionChunk);
  block.q_stride = attention_query_bytes(head_dim);
  block.o = reinterpret_cast<float*>(block.q + kAttentionQueryBlock * block.q_stride);
  start_tiles<kDots>(block, head_dim, args.scale, limits.q, args.first);
  const int32_t keys = most_keys(block, 0, block.rows, 0, INT32_MAX);
  for (int32_t chunk = 0; chunk < keys; chunk += kAttentionChunk) {
    const int blocks = key_blocks(at_most(keys - chunk, kAttentionChunk));
    for (int r = 0; r < kAttentionQueryBlock; ++r) vec::store(rows.most[r], vec::set1(block.maximum[r]));
    for (int b = 0; b < blocks; b += kSliceBlocks) {
      score_slice<kDots>(block, rows, k, padded, chunk, b * kKvKeyBlock, at_most(blocks - b, kSliceBlocks));
    }
    const int end = (blocks + kSliceBlocks - 1) / kSliceBlocks * kSlice;
    softmax_rows<kDots>(block, rows, v, chunk, args.first && chunk == 0, limits.w, end);
    add_values<kDots>(block, v, padded, chunk, blocks);
  }
  finish_block(block, head_dim, args.last);
}

// Tiles are set up for the first block that takes them.
struct TileSession {
  bool on = false;

  __attribute__((always_inline)) bool attend(const AttentionArgs& args, AttentionBlock& block, int32_t kv_head) {
    if (block.rows < kTileRows || args.cache.head_dim < kTileDims) return false;
    if (!on) tiles_begin();
    on = true;
    if (args.cache.bits == 16) {
      attend_tiles<Dots::kWords>(args, block, kv_head, {8191, 8191});
    } else if (args.activation_bits == 16) {
      attend_tiles<Dots::kWide>(args, block, kv_head, {32767, 32767});
    } else {
      attend_tiles<Dots::kBytes>(args, block, kv_head, {127, 255});
    }
    return true;
  }

  __attribute__((always_inline)) void end() const {
    if (on) tiles_end();
  }
};

}  // namespace
}  // namespace hvl

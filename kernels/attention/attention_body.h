// Softmax attention over blocks of query rows and chunks of keys, written once over the vec16 of the including variant.
//
// A block is up to 16 query rows that read the same K/V head: one work unit, or, when units are short (decode), the units of several query
// heads that share it. For each chunk of 256 keys: scores for all rows (register blocks of kRows rows x kWide vectors of keys, summing over
// d), softmax row by row, then values (register blocks of kRows rows x kWide vectors of d, summing over keys). K/V pass in slices of 64 keys,
// small enough to stay in the first cache for all rows. How rows and vectors are blocked never changes the order of one element's sum.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/common/math.h"

namespace hvl {
namespace {

inline constexpr int kRowGroup = vec::kRows;
inline constexpr int kSlice = kAttentionSlice;

// How K/V elements are read.
struct FloatSide {
  using Element = float;
  HVL_VEC Vec16 load(const float* p) { return vec::load(p); }
  HVL_VEC Vec16 load_n(const float* p, int n) { return vec::load_n(p, n); }
};

struct HalfSide {
  using Element = uint16_t;
  HVL_VEC Vec16 load(const uint16_t* p) { return vec::load_half(p); }
  HVL_VEC Vec16 load_n(const uint16_t* p, int n) { return vec::load_half_n(p, n); }
};

// The query rows that are worked on together. What is large lies in the caller's scratch.
struct AttentionBlock {
  int rows = 0;
  const float* q_row[kAttentionQueryBlock];
  float* out_row[kAttentionQueryBlock];
  float* state[kAttentionQueryBlock];     // maximum and sum, between the parts of the keys
  int32_t visible[kAttentionQueryBlock];  // keys 0 .. visible - 1, counted from key_begin; none: 0 or less
  alignas(64) float maximum[kAttentionQueryBlock];
  alignas(64) float sum[kAttentionQueryBlock];
  alignas(64) float correction[kAttentionQueryBlock];
  float* q;       // (groups, head_dim, rows of the group)
  float* scores;  // (rows, keys of the chunk)
  float* o;       // (rows, head_dim padded to 16)
  float* slice;   // 16-bit caches: K or V of a slice, converted to float
};

HVL_VEC int32_t at_most(int32_t a, int32_t b) { return a < b ? a : b; }

// scores[r][16 w + lane] = scale * sum over d of q[d][r] * k[w][d][lane]
template <class Side, int R, int W>
static __attribute__((noinline)) void qk_block(const float* q, const typename Side::Element* k, int32_t head_dim, float scale,
                                               float* scores) {
  Vec16 acc[R][W];
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) acc[r][w] = vec::zero();
  }
  const int64_t stride = int64_t{head_dim} * 16;
  for (int32_t d = 0; d < head_dim; ++d) {
    Vec16 key[W];
HVL_UNROLL
    for (int w = 0; w < W; ++w) key[w] = Side::load(k + w * stride + d * 16);
HVL_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec16 query = vec::set1(q[d * R + r]);
HVL_UNROLL
      for (int w = 0; w < W; ++w) acc[r][w] = vec::fma(query, key[w], acc[r][w]);
    }
  }
  const Vec16 factor = vec::set1(scale);
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) vec::store(scores + r * kAttentionChunk + 16 * w, vec::mul(factor, acc[r][w]));
  }
}

// qk_block over all `vectors` key vectors, the widest blocks first.
template <class Side, int R, int W>
HVL_VEC void qk_vectors(const float* q, const typename Side::Element* k, int32_t head_dim, float scale, float* scores, int vectors) {
  while (vectors >= W) {
    qk_block<Side, R, W>(q, k, head_dim, scale, scores);
    k += int64_t{W} * head_dim * 16;
    scores += W * 16;
    vectors -= W;
  }
  if constexpr (W > 1) {
    if (vectors > 0) qk_vectors<Side, R, W / 2>(q, k, head_dim, scale, scores, vectors);
  }
}

// o[r][16 w + lane] += sum over keys in order of p[r][key] * v[key][16 w + lane]; tail: lanes of the only vector, or 16.
template <class Side, int R, int W, bool kTail>
static __attribute__((noinline)) void pv_block(const float* p, const typename Side::Element* v, int64_t stride, int keys, float* o,
                                               int64_t o_stride, int tail) {
  Vec16 acc[R][W];
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) acc[r][w] = vec::load(o + r * o_stride + 16 * w);
  }
  for (int key = 0; key < keys; ++key) {
    Vec16 value[W];
HVL_UNROLL
    for (int w = 0; w < W; ++w) value[w] = kTail ? Side::load_n(v + key * stride, tail) : Side::load(v + key * stride + 16 * w);
HVL_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec16 weight = vec::set1(p[r * kAttentionChunk + key]);
HVL_UNROLL
      for (int w = 0; w < W; ++w) acc[r][w] = vec::fma(weight, value[w], acc[r][w]);
    }
  }
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) vec::store(o + r * o_stride + 16 * w, acc[r][w]);
  }
}

// pv_block over a whole head, the widest blocks first.
template <class Side, int R, int W>
HVL_VEC void pv_vectors(const float* p, const typename Side::Element* v, int64_t stride, int keys, float* o, int64_t o_stride,
                        int32_t head_dim) {
  while (head_dim >= 16 * W) {
    pv_block<Side, R, W, false>(p, v, stride, keys, o, o_stride, 16);
    v += 16 * W;
    o += 16 * W;
    head_dim -= 16 * W;
  }
  if constexpr (W > 1) {
    if (head_dim > 0) pv_vectors<Side, R, W / 2>(p, v, stride, keys, o, o_stride, head_dim);
  } else {
    if (head_dim > 0) pv_block<Side, R, 1, true>(p, v, stride, keys, o, o_stride, head_dim);
  }
}

constexpr int wide_for(int rows) { return rows <= 2 ? vec::kWideFewRows : vec::kWide; }

// From a group's number of rows (1 .. R) to the code for that number.
template <class Side, int R>
HVL_VEC void qk_group(int rows, const float* q, const typename Side::Element* k, int32_t head_dim, float scale, float* scores, int vectors) {
  if (rows == R) {
    qk_vectors<Side, R, wide_for(R)>(q, k, head_dim, scale, scores, vectors);
  } else if constexpr (R > 1) {
    qk_group<Side, R - 1>(rows, q, k, head_dim, scale, scores, vectors);
  }
}

template <class Side, int R>
HVL_VEC void pv_group(int rows, const float* p, const typename Side::Element* v, int64_t stride, int keys, float* o, int64_t o_stride,
                      int32_t head_dim) {
  if (rows == R) {
    pv_vectors<Side, R, wide_for(R)>(p, v, stride, keys, o, o_stride, head_dim);
  } else if constexpr (R > 1) {
    pv_group<Side, R - 1>(rows, p, v, stride, keys, o, o_stride, head_dim);
  }
}

// Fewest and most keys of [0, limit) from `start` on that the rows of a group may see.
struct KeyCounts {
  int fewest;
  int most;
};

HVL_VEC KeyCounts count_keys(const AttentionBlock& block, int first_row, int rows, int32_t start, int limit) {
  KeyCounts counts = {limit, 0};
  for (int r = first_row; r < first_row + rows; ++r) {
    const int32_t left = block.visible[r] - start;
    const int n = left < 0 ? 0 : at_most(left, limit);
    if (n < counts.fewest) counts.fewest = n;
    if (n > counts.most) counts.most = n;
  }
  return counts;
}

// Scores of one slice. `start` is its first key, `base` its place in the chunk, k its first key block.
template <class Side>
HVL_VEC void score_slice(AttentionBlock& block, const typename Side::Element* k, int32_t head_dim, float scale, int32_t start, int base) {
  for (int first = 0; first < block.rows; first += kRowGroup) {
    const int rows = at_most(kRowGroup, block.rows - first);
    const int vectors = (count_keys(block, first, rows, start, kSlice).most + 15) / 16;
    qk_group<Side, kRowGroup>(rows, block.q + first * head_dim, k, head_dim, scale, block.scores + first * kAttentionChunk + base, vectors);
  }
}

// Adds one slice's values. Keys that only some rows of a group see (the edge of a causal mask) are added row by row: adding 0 * V
// to the others could change the sign of a zero, or make NaN of an infinite V.
template <class Side>
HVL_VEC void value_slice(AttentionBlock& block, const typename Side::Element* v, int64_t stride, int32_t head_dim, int64_t o_stride,
                         int32_t start, int base) {
  for (int first = 0; first < block.rows; first += kRowGroup) {
    const int rows = at_most(kRowGroup, block.rows - first);
    const KeyCounts counts = count_keys(block, first, rows, start, kSlice);
    const float* p = block.scores + first * kAttentionChunk + base;
    float* o = block.o + first * o_stride;
    if (counts.fewest > 0) pv_group<Side, kRowGroup>(rows, p, v, stride, counts.fewest, o, o_stride, head_dim);
    if (counts.most == counts.fewest) continue;
    for (int r = 0; r < rows; ++r) {
      const int more = count_keys(block, first + r, 1, start, kSlice).most - counts.fewest;
      if (more <= 0) continue;
      pv_group<Side, 1>(1, p + r * kAttentionChunk + counts.fewest, v + counts.fewest * stride, stride, more, o + r * o_stride, o_stride,
                     head_dim);
    }
  }
}

// Scores of the chunk from `start` on to weights; running maxima and sums; o scaled to the new maxima. first: no key came before.
HVL_VEC void softmax_chunk(AttentionBlock& block, int32_t start, bool first, int64_t o_stride) {
  const Vec16 minus_infinity = vec::set1(-__builtin_inff());
  alignas(64) float maximum[kAttentionQueryBlock];
  for (int r = 0; r < kAttentionQueryBlock; ++r) {
    maximum[r] = block.maximum[r];
    const int n = r < block.rows ? count_keys(block, r, 1, start, kAttentionChunk).most : 0;
    if (n == 0) continue;
    const float* s = block.scores + r * kAttentionChunk;
    Vec16 most = vec::set1(maximum[r]);
    const int whole = n / 16 * 16;
    for (int key = 0; key < whole; key += 16) most = vec::max(most, vec::load(s + key));
    if (whole < n) most = vec::max(most, vec::first_n(vec::load(s + whole), n - whole, minus_infinity));
    maximum[r] = vec::merge_max(most);
  }
  // The corrections of all rows in one vector. A row that sees no key here keeps its maximum: exp(0) is 1 exactly, nothing changes.
  const Vec16 corrections = exp(vec::sub(vec::load(block.maximum), vec::load(maximum)));
  vec::store(block.correction, first ? vec::zero() : corrections);
  vec::store(block.maximum, vec::load(maximum));

  for (int r = 0; r < block.rows; ++r) {
    const int n = count_keys(block, r, 1, start, kAttentionChunk).most;
    if (n == 0) continue;
    float* s = block.scores + r * kAttentionChunk;
    const Vec16 most = vec::set1(maximum[r]);
    Vec16 sum = vec::zero();
    const int whole = n / 16 * 16;
    for (int key = 0; key < whole; key += 16) {
      const Vec16 p = exp(vec::sub(vec::load(s + key), most));
      vec::store(s + key, p);
      sum = vec::add(sum, p);
    }
    if (whole < n) {
      const Vec16 p = vec::first_n(exp(vec::sub(vec::load(s + whole), most)), n - whole, vec::zero());
      vec::store(s + whole, p);
      sum = vec::add(sum, p);
    }
    block.sum[r] = __builtin_fmaf(block.sum[r], block.correction[r], vec::merge_add(sum));
    const Vec16 correction = vec::set1(block.correction[r]);
    float* o = block.o + r * o_stride;
    for (int64_t d = 0; d < o_stride; d += 16) vec::store(o + d, vec::mul(vec::load(o + d), correction));
  }
}

HVL_VEC void start_block(AttentionBlock& block, int32_t head_dim, int64_t o_stride, bool first_part) {
  for (int first = 0; first < block.rows; first += kRowGroup) {
    const int rows = at_most(kRowGroup, block.rows - first);
    float* q = block.q + first * head_dim;
    for (int r = 0; r < rows; ++r) {
      for (int32_t d = 0; d < head_dim; ++d) q[d * rows + r] = block.q_row[first + r][d];
    }
  }
  vec::store(block.maximum, vec::set1(-__builtin_inff()));
  vec::store(block.sum, vec::zero());
  if (first_part) {
    for (int64_t i = 0; i < block.rows * o_stride; i += 16) vec::store(block.o + i, vec::zero());
    return;
  }
  for (int r = 0; r < block.rows; ++r) {
    block.maximum[r] = block.state[r][0];
    block.sum[r] = block.state[r][1];
    float* o = block.o + r * o_stride;
    for (int32_t d = 0; d < head_dim; d += 16) vec::store(o + d, vec::load_n(block.out_row[r] + d, at_most(head_dim - d, 16)));
  }
}

HVL_VEC void finish_block(const AttentionBlock& block, int32_t head_dim, int64_t o_stride, bool last_part) {
  for (int r = 0; r < block.rows; ++r) {
    if (!last_part) {
      block.state[r][0] = block.maximum[r];
      block.state[r][1] = block.sum[r];
    }
    const Vec16 inverse = vec::set1(1.0f / block.sum[r]);
    const float* o = block.o + r * o_stride;
    for (int32_t d = 0; d < head_dim; d += 16) {
      const Vec16 sum = vec::load(o + d);
      const Vec16 value = last_part ? vec::mul(sum, inverse) : sum;
      if (head_dim - d >= 16) {
        vec::store(block.out_row[r] + d, value);
      } else {
        vec::store_n(block.out_row[r] + d, value, head_dim - d);
      }
    }
  }
}

// Side: what the cache holds. k and v: of the block's kv head, from key_begin on.
template <class Side>
HVL_VEC void attend(const AttentionArgs& args, AttentionBlock& block, const typename Side::Element* k, const typename Side::Element* v) {
  const int32_t head_dim = args.cache.head_dim;
  const float scale = args.scale;
  const int64_t o_stride = (head_dim + 15) / 16 * 16;
  const int32_t keys = count_keys(block, 0, block.rows, 0, INT32_MAX).most;
  // Halves are converted once a slice when several groups read it, else as they are read.
  const bool convert = sizeof(typename Side::Element) == 2 && block.rows > kRowGroup;
  start_block(block, head_dim, o_stride, args.first);
  for (int32_t chunk = 0; chunk < keys; chunk += kAttentionChunk) {
    const int32_t chunk_end = at_most(keys - chunk, kAttentionChunk);
    for (int base = 0; base < chunk_end; base += kSlice) {
      const typename Side::Element* from = k + int64_t{chunk + base} * head_dim;
      if (convert) {
        const int32_t n = (at_most(chunk_end - base, kSlice) + 15) / 16 * head_dim;  // vectors; blocks are whole
        for (int32_t i = 0; i < n; ++i) vec::store(block.slice + i * 16, Side::load(from + i * 16));
        score_slice<FloatSide>(block, block.slice, head_dim, scale, chunk + base, base);
      } else {
        score_slice<Side>(block, from, head_dim, scale, chunk + base, base);
      }
    }
    softmax_chunk(block, chunk, args.first && chunk == 0, o_stride);
    for (int base = 0; base < chunk_end; base += kSlice) {
      const typename Side::Element* from = v + int64_t{chunk + base} * head_dim;
      if (convert) {
        const int n = at_most(chunk_end - base, kSlice);
        for (int key = 0; key < n; ++key) {
          for (int32_t d = 0; d < head_dim; d += 16) {
            const Vec16 value = head_dim - d >= 16 ? Side::load(from + int64_t{key} * head_dim + d)
                                                   : Side::load_n(from + int64_t{key} * head_dim + d, head_dim - d);
            vec::store(block.slice + key * o_stride + d, value);
          }
        }
        // Padded rows are read whole; the lanes past head_dim are never written out.
        value_slice<FloatSide>(block, block.slice, o_stride, static_cast<int32_t>(o_stride), o_stride, chunk + base, base);
      } else {
        value_slice<Side>(block, from, head_dim, head_dim, o_stride, chunk + base, base);
      }
    }
  }
  finish_block(block, head_dim, o_stride, args.last);
}

template <class Side>
HVL_VEC void attend_head(const AttentionArgs& args, AttentionBlock& block, int32_t kv_head) {
  using Element = typename Side::Element;
  const int64_t side = int64_t{args.cache.capacity} * args.cache.head_dim * kv_head;
  attend<Side>(args, block, static_cast<const Element*>(args.cache.k) + side, static_cast<const Element*>(args.cache.v) + side);
}

HVL_VEC void add_unit(const AttentionArgs& args, AttentionBlock& block, int32_t head, int32_t first_row, int32_t rows) {
  const int64_t column = int64_t{head} * args.cache.head_dim;
  for (int32_t row = first_row; row < first_row + rows; ++row) {
    block.q_row[block.rows] = args.q + row * args.q_stride + column;
    block.out_row[block.rows] = args.out + row * args.out_stride + column;
    block.state[block.rows] = args.first && args.last ? nullptr : args.state + row * args.state_stride + 2 * int64_t{head};
    block.visible[block.rows] = (args.causal ? at_most(args.position + row + 1, args.key_end) : args.key_end) - args.key_begin;
    ++block.rows;
  }
}

HVL_VEC void attention_body(const AttentionArgs& args, int32_t begin, int32_t end) {
  const int32_t blocks = (args.rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock;
  const int32_t heads_per_kv = args.heads / args.cache.kv_heads;
  const int64_t padded = (args.cache.head_dim + 15) / 16 * 16;
  AttentionBlock block;
  block.q = reinterpret_cast<float*>(args.scratch);
  block.o = block.q + kAttentionQueryBlock * padded;
  block.scores = block.o + kAttentionQueryBlock * padded;
  block.slice = block.scores + kAttentionQueryBlock * kAttentionChunk;
  for (int32_t unit = begin; unit < end;) {
    const int32_t kv_head = unit / blocks / heads_per_kv;
    block.rows = 0;
    // Short units of query heads that share the kv head go together, so that its keys and values are read once.
    do {
      const int32_t first_row = unit % blocks * kAttentionQueryBlock;
      const int32_t rows = at_most(args.rows - first_row, kAttentionQueryBlock);
      if (block.rows + rows > kAttentionQueryBlock) break;
      add_unit(args, block, unit / blocks, first_row, rows);
      ++unit;
    } while (unit < end && unit / blocks / heads_per_kv == kv_head);
    if (args.cache.bits == 16) {
      attend_head<HalfSide>(args, block, kv_head);
    } else {
      attend_head<FloatSide>(args, block, kv_head);
    }
  }
}

}  // namespace
}  // namespace hvl

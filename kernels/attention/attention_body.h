// Softmax attention over blocks of query rows and chunks of keys, written once over the vec16 of the including variant.
//
// A block is up to kAttentionQueryBlock query rows that read the same K/V head: one work unit, or, when units are short (decode), the units of
// several query heads that share it. For each chunk of 256 keys: scores for all rows (register blocks of kRows rows x kWide vectors of keys,
// over d), softmax row by row, then values (register blocks of kRows rows x kWide vectors of d, over keys). K/V pass in slices of 64 keys,
// small enough to stay in the first cache for all rows. All dots are exact, so that blocking cannot change a bit.
//
// What bounds it: for each row and 16 keys, head_dim / 4 byte dots (head_dim / 2 word dots) for QK and as many for PV, on two pipes that also
// do the 14 multiplications of exp and scales. On Zen 4 (one 512-bit dot a cycle) head_dim 64 takes at least 45 cycles (77). Measured: 74 (107),
// of them 33 in the dots with byte dots: what is left to gain is in the softmax, two thirds of which is exp and rounding. One row over a long
// cache (decode) is bound by reading K and V once.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/common/math.h"
#include "kernels/common/row_scale.h"

// gcc 12 merges the values an accumulator has before, in and after a loop into one variable and moves all of them in every step
// (kernels/linear/byte_dots.h has the same).
#if defined(__GNUC__) && !defined(__clang__)
#define HVL_HOT_LOOP __attribute__((noinline, optimize("no-tree-coalesce-vars")))
#else
#define HVL_HOT_LOOP __attribute__((noinline))
#endif

namespace hvl {
namespace {

using vec::Ints;

// How a vector of K or V meets q or p.
enum class Dots {
  kBytes,  // four bytes a lane, both sides bytes
  kWide,   // four bytes a lane, spread to words (two vectors), q and p words in the order 0 2 1 3
  kWords,  // two words a lane
};

constexpr int lane_values(Dots dots) { return dots == Dots::kWords ? 2 : 4; }  // of K or V
constexpr int value_bytes(Dots dots) { return dots == Dots::kBytes ? 1 : 2; }  // of q and p
constexpr int step_bytes(Dots dots) { return lane_values(dots) * value_bytes(dots); }  // of q or p that meet a vector
constexpr int run_dims(Dots dots) { return dots == Dots::kWords ? 32 : kAttentionMaxHeadDim; }

inline constexpr int kRowGroup = vec::kRows;
inline constexpr int kSlice = 64;  // keys worked on at a time
inline constexpr int kRuns = kAttentionChunk / kAttentionRun;
inline constexpr int64_t kScoreBytes = kAttentionChunk * int64_t{sizeof(float)};  // of a row

// The query rows that are worked on together. What is large lies in the caller's scratch.
struct AttentionBlock {
  int rows = 0;
  const float* q_row[kAttentionQueryBlock];
  float* out_row[kAttentionQueryBlock];
  float* state[kAttentionQueryBlock];         // maximum and sum, between the parts of the keys
  int32_t visible[kAttentionQueryBlock];      // keys 0 .. visible - 1, counted from key_begin; none: 0 or less
  int32_t start[kAttentionQueryBlock];        // what a byte dot of q and K starts at
  alignas(64) float score_scale[kAttentionQueryBlock];  // s_q * scale
  float weight_scale[kAttentionQueryBlock][kRuns];  // s_w
  alignas(64) float maximum[kAttentionQueryBlock];
  alignas(64) float sum[kAttentionQueryBlock];
  alignas(64) float correction[kAttentionQueryBlock];
  float* scores;  // (rows, keys of the chunk); then, at the start of each row, its weights as integers
  float* o;       // (rows, head_dim padded to 16)
  uint8_t* q;     // (rows, q_stride): integers, zeros behind head_dim
  int64_t q_stride;
};

// K or V of a head, from key_begin on.
struct KvSide {
  const uint8_t* blocks;
  int64_t block_bytes;
  const float* scales(int32_t key) const { return reinterpret_cast<const float*>(blocks + key / kKvKeyBlock * block_bytes); }
  const uint8_t* values(int32_t key) const { return blocks + key / kKvKeyBlock * block_bytes + kKvScaleBytes; }
};

HVL_VEC int32_t at_most(int32_t a, int32_t b) { return a < b ? a : b; }

#ifdef HVL_ATTENTION_BLOCKS
#include HVL_ATTENTION_BLOCKS  // has qk_block and pv_block of its own
#else
// acc[r][w] += dots of the vectors x[w] and the values at a + r * stride. kAUnsigned: of byte dots, a (p) is the unsigned side; else x (K + 128).
template <Dots kDots, bool kAUnsigned, int R, int W>
HVL_VEC void add_dots(const uint8_t* a, int64_t stride, const Ints (&x)[W], Ints (&acc)[R][W]) {
  constexpr int kParts = kDots == Dots::kWide ? 2 : 1;
HVL_UNROLL
  for (int part = 0; part < kParts; ++part) {
    Ints value[W];
HVL_UNROLL
    for (int w = 0; w < W; ++w) value[w] = kDots != Dots::kWide ? x[w] : part == 0 ? vec::even_bytes(x[w]) : vec::odd_bytes(x[w]);
HVL_UNROLL
    for (int r = 0; r < R; ++r) {
      const Ints factor = vec::ints_broadcast(a + r * stride + 4 * part);
HVL_UNROLL
      for (int w = 0; w < W; ++w) {
        if constexpr (kDots != Dots::kBytes) {
          acc[r][w] = vec::dot_words(acc[r][w], factor, value[w]);
        } else {
          acc[r][w] = kAUnsigned ? vec::dot_bytes(acc[r][w], factor, value[w]) : vec::dot_bytes(acc[r][w], value[w], factor);
        }
      }
    }
  }
}

// scores[r][16 w + lane] = dot (added to what is there, after the first run) of `steps` vectors of q[r] and of key block w.
template <Dots kDots, int R, int W>
HVL_HOT_LOOP static void qk_block(const uint8_t* q, int64_t q_stride, const int32_t* start, const uint8_t* k, int64_t block_bytes, int32_t steps,
                                  bool first_run, float* scores) {
  const Ints flip = vec::ints_set1(static_cast<int32_t>(0x80808080u));
  Ints acc[R][W];
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
    const Ints from = kDots == Dots::kBytes ? vec::ints_set1(start[r]) : vec::ints_zero();
HVL_UNROLL
    for (int w = 0; w < W; ++w) acc[r][w] = from;
  }
  for (int32_t step = 0; step < steps; ++step) {
    Ints key[W];
HVL_UNROLL
    for (int w = 0; w < W; ++w) {
      key[w] = vec::ints_load(k + w * block_bytes + step * 64);
      if constexpr (kDots == Dots::kBytes) key[w] = vec::ints_xor(key[w], flip);
    }
    add_dots<kDots, false, R, W>(q + step * step_bytes(kDots), q_stride, key, acc);
  }
HVL_UNROLL
  for (int r = 0; r < R; ++r) {
HVL_UNROLL
    for (int w = 0; w < W; ++w) {
      float* at = scores + r * kAttentionChunk + 16 * w;
      const Vec16 dot = vec::to_float(acc[r][w]);
      vec::store(at, first_run ? dot : vec::add(vec::load(at), dot));
    }
  }
}

// o[r][16 w + lane] = fma(dot of the weights of a run and its values, scale[r][run], o[r][16 w + lane]) over the runs of `blocks` blocks of
// keys. v: at the first vector of d, step: bytes from one lane_values keys to the next.
template <Dots kDots, int R, int W>
HVL_HOT_LOOP static void pv_block(const uint8_t* p, const uint8_t* v, int64_t block_bytes, int64_t step, int blocks, const float* scale, float* o,
                                  int64_t o_stride) {
  constexpr int kSteps = kKvKeyBlock / lane_values(kDots), kRunBlocks = kAttentionRun / kKvKeyBlock;
  for (; blocks > 0; blocks -= kRunBlocks, ++scale) {
    Ints acc[R][W];
HVL_UNROLL
    for (int r = 0; r < R; ++r) {
HVL_UNROLL
      for (int w = 0; w < W; ++w) acc[r][w] = vec::ints_zero();
    }
    for (int block = 0; block < at_most(blocks, kRunBlocks); ++block, v += block_bytes, p += kSteps * step_bytes(kDots)) {
      for (int i = 0; i < kSteps; ++i) {
        Ints value[W];
HVL_UNROLL
        for (int w = 0; w < W; ++w) value[w] = vec::ints_load(v + i * step + w * 64);
        add_dots<kDots, true, R, W>(p + i * step_bytes(kDots), kScoreBytes, value, acc);
      }
    }
HVL_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec16 factor = vec::set1(scale[r * kRuns]);
HVL_UNROLL
      for (int w = 0; w < W; ++w) {
        float* at = o + r * o_stride + 16 * w;
        vec::store(at, vec::fma(vec::to_float(acc[r][w]), factor, vec::load(at)));
      }
    }
  }
}

#endif  // HVL_ATTENTION_BLOCKS

// Rows first .. first + R - 1 over `blocks` key blocks from `base` (in the chunk) on, the widest register blocks first.
template <Dots kDots, int R, int W>
HVL_VEC void qk_vectors(const AttentionBlock& block, int first, const uint8_t* k, int64_t block_bytes, int32_t head_dim, int base, int blocks) {
  float* scores = block.scores + first * kAttentionChunk + base;
  while (blocks >= W) {
    for (int32_t d = 0; d < head_dim; d += run_dims(kDots)) {
      const int32_t steps = (at_most(head_dim - d, run_dims(kDots)) + lane_values(kDots) - 1) / lane_values(kDots);
      qk_block<kDots, R, W>(block.q + first * block.q_stride + d * value_bytes(kDots), block.q_stride, block.start + first,
                            k + d / lane_values(kDots) * 64, block_bytes, steps, d == 0, scores);
    }
    k += W * block_bytes;
    scores += W * 16;
    base += W * 16;
    blocks -= W;
  }
  if constexpr (W > 1) {
    if (blocks > 0) qk_vectors<kDots, R, W / 2>(block, first, k, block_bytes, head_dim, base, blocks);
  }
}

// The same rows and blocks (from the start of a run on), over all of d.
template <Dots kDots, int R, int W>
HVL_VEC void pv_vectors(const AttentionBlock& block, int first, const uint8_t* v, int64_t block_bytes, int32_t padded, int base, int blocks,
                        int32_t d) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(block.scores) + first * kScoreBytes + base * value_bytes(kDots);
  const float* scale = block.weight_scale[first] + base / kAttentionRun;
  for (; padded - d >= 16 * W; d += 16 * W) {
    pv_block<kDots, R, W>(p, v + d * 4, block_bytes, int64_t{padded} * 4, blocks, scale, block.o + first * padded + d, padded);
  }
  if constexpr (W > 1) {
    if (d < padded) pv_vectors<kDots, R, W / 2>(block, first, v, block_bytes, padded, base, blocks, d);
  }
}

// Vectors of d a register block takes for so many rows. Of keys there are at most a slice's.
constexpr int wide_for(Dots dots, int rows) { return rows <= 2 && dots != Dots::kWide ? vec::kWideFewRows : vec::kWide; }
constexpr int wide_keys(Dots dots, int rows) { return wide_for(dots, rows) < kSlice / 16 ? wide_for(dots, rows) : kSlice / 16; }
static_assert(kAttentionQueryBlock % 16 == 0 && kSlice % kAttentionRun == 0);

// From a group's number of rows (1 .. R) to the code for that number.
template <Dots kDots, int R>
HVL_VEC void qk_group(const AttentionBlock& block, int first, int rows, const uint8_t* k, int64_t block_bytes, int32_t head_dim, int base,
                      int blocks) {
  if (rows == R) {
    qk_vectors<kDots, R, wide_keys(kDots, R)>(block, first, k, block_bytes, head_dim, base, blocks);
  } else if constexpr (R > 1) {
    qk_group<kDots, R - 1>(block, first, rows, k, block_bytes, head_dim, base, blocks);
  }
}

template <Dots kDots, int R>
HVL_VEC void pv_group(const AttentionBlock& block, int first, int rows, const uint8_t* v, int64_t block_bytes, int32_t padded, int base,
                      int blocks) {
  if (rows == R) {
    pv_vectors<kDots, R, wide_for(kDots, R)>(block, first, v, block_bytes, padded, base, blocks, 0);
  } else if constexpr (R > 1) {
    pv_group<kDots, R - 1>(block, first, rows, v, block_bytes, padded, base, blocks);
  }
}

// Most keys of [start, start + limit) that one of the rows may see.
HVL_VEC int most_keys(const AttentionBlock& block, int first, int rows, int32_t start, int limit) {
  int most = 0;
  for (int r = first; r < first + rows; ++r) {
    const int32_t left = block.visible[r] - start;
    if (left > most) most = at_most(left, limit);
  }
  return most;
}

HVL_VEC int key_blocks(int keys) { return (keys + kKvKeyBlock - 1) / kKvKeyBlock; }

template <Dots kDots>
HVL_VEC void store_integers(uint8_t* p, Ints x) {
  if constexpr (kDots == Dots::kBytes) {
    vec::store_bytes(p, x);
  } else if constexpr (kDots == Dots::kWide) {
    vec::store_words_0213(p, x);
  } else {
    vec::store_words(p, x);
  }
}

// Dots of one row with the n keys from `start` on to scores; returns the row's maximum.
HVL_VEC float scale_scores(AttentionBlock& block, int r, const KvSide& k, int32_t start, int n) {
  float* s = block.scores + r * kAttentionChunk;
  const Vec16 factor = vec::set1(block.score_scale[r]);
  Vec16 most = vec::set1(block.maximum[r]);
  for (int key = 0; key < n; key += 16) {
    const Vec16 score = vec::mul(vec::mul(vec::load(s + key), factor), vec::load(k.scales(start + key)));
    vec::store(s + key, score);
    most = vec::max(most, n - key >= 16 ? score : vec::first_n(score, n - key, vec::set1(-__builtin_inff())));
  }
  return vec::merge_max(most);
}

// exp of scores, all at most 0: the same bits as exp, which also has an upper limit.
HVL_VEC Vec16 exp_below_zero(Vec16 x) {
  const ExpParts e = exp_parts(vec::max(vec::set1(-105.0f), x));
  return vec::scale_exp2(vec::fma(e.r, e.tail, vec::set1(1.0f)), e.n);
}

// What a pass over a row's scores gathers.
struct RowSums {
  Vec16 p;
  Ints top;  // bits of the largest w: they are not negative. A NaN of V has no sign; one of p makes the sum NaN
};

// The scores of 16 keys, of which the row sees `left` (16 or more: all), to w; p is added up.
HVL_VEC void weigh_vector(float* s, const float* scales, Vec16 most, int left, RowSums& sums) {
  Vec16 p = exp_below_zero(vec::sub(vec::load(s), most));
  Vec16 w = vec::mul(p, vec::load(scales));
  if (left < 16) {
    p = vec::first_n(p, left, vec::zero());
    w = vec::first_n(w, left, vec::zero());
  }
  sums.p = vec::add(sums.p, p);
  sums.top = vec::ints_max(sums.top, vec::float_bits(w));
  vec::store(s, w);
}

// Scales of the runs of a row, whose largest weights have the bits `top`; inverse: row_scale's.
HVL_VEC void run_scales(const int32_t (&top)[16], int runs, float limit, float* scales, float (&inverse)[16]) {
  bool plain = true;
  for (int run = 0; run < runs; ++run) plain &= top[run] >= 0x10000000 && top[run] < 0x7f800000;  // 2.5e-29 to infinity
  if (plain && runs == kRuns) {
    float largest[16];
    __builtin_memcpy(largest, top, kRuns * sizeof(float));
    const Vec16 m = vec::load_n(largest, kRuns), most = vec::set1(limit);
    vec::store_n(scales, vec::div(m, most), kRuns);
    vec::store_n(inverse, vec::div(most, m), kRuns);
    return;
  }
  for (int run = 0; run < runs; ++run) {
    const RowScale scale = row_scale(top[run], limit);
    scales[run] = scale.scale;
    inverse[run] = scale.inverse;
  }
}

// Scores of one row to integer weights, zeros up to key `end`; returns the sum of the unrounded p. In passes, so that no step waits for
// the maximum of its run.
template <Dots kDots>
HVL_VEC float weigh_row(AttentionBlock& block, int r, const KvSide& v, int32_t start, int n, int end, float limit) {
  float* s = block.scores + r * kAttentionChunk;
  const Vec16 most = vec::set1(block.maximum[r]);
  RowSums sums = {vec::zero(), vec::ints_zero()};
  alignas(64) int32_t top[16];
  const int runs = (end + kAttentionRun - 1) / kAttentionRun;
  for (int run = 0; run < runs; ++run) {
    const int key = run * kAttentionRun, left = n - key;
    sums.top = vec::ints_zero();
    if (left >= kAttentionRun) {
HVL_UNROLL
      for (int i = 0; i < kAttentionRun; i += 16) weigh_vector(s + key + i, v.scales(start + key + i), most, 16, sums);
    } else {
      for (int i = 0; i < left; i += 16) weigh_vector(s + key + i, v.scales(start + key + i), most, left - i, sums);
    }
    top[run] = vec::ints_merge_max(sums.top);
  }
  alignas(64) float inverse[16];
  run_scales(top, runs, limit, block.weight_scale[r], inverse);
  uint8_t* out = reinterpret_cast<uint8_t*>(s);  // integers are shorter: they never overtake what is still to be read
  for (int run = 0; run < runs; ++run) {
    const RowScale scale = {0.0f, inverse[run]};
HVL_UNROLL
    for (int key = run * kAttentionRun, i = 0; i < kAttentionRun; i += 16) {
      const Ints w = key + i < n ? to_row_scale(vec::load(s + key + i), scale) : vec::ints_zero();
      store_integers<kDots>(out + (key + i) * value_bytes(kDots), w);
    }
  }
  return vec::merge_add(sums.p);
}

// Dots of the chunk from `start` on to weights; running maxima and sums; o scaled to the new maxima. first: no key came before.
template <Dots kDots>
HVL_VEC void softmax_chunk(AttentionBlock& block, const KvSide& k, const KvSide& v, int32_t start, bool first, float limit, int64_t o_stride) {
  const int end = key_blocks(most_keys(block, 0, block.rows, start, kAttentionChunk)) * kKvKeyBlock;
  alignas(64) float maximum[kAttentionQueryBlock];
  for (int r = 0; r < kAttentionQueryBlock; ++r) {
    const int n = r < block.rows ? most_keys(block, r, 1, start, kAttentionChunk) : 0;
    maximum[r] = n == 0 ? block.maximum[r] : scale_scores(block, r, k, start, n);
  }
  // The corrections of sixteen rows in one vector. A row that sees no key here keeps its maximum: exp(0) is 1 exactly, nothing changes.
  for (int r = 0; r < kAttentionQueryBlock; r += 16) {
    const Vec16 corrections = exp(vec::sub(vec::load(block.maximum + r), vec::load(maximum + r)));
    vec::store(block.correction + r, first ? vec::zero() : corrections);
    vec::store(block.maximum + r, vec::load(maximum + r));
  }
  for (int r = 0; r < block.rows; ++r) {
    const int n = most_keys(block, r, 1, start, kAttentionChunk);
    const float sum = weigh_row<kDots>(block, r, v, start, n, end, limit);
    if (n == 0) continue;
    block.sum[r] = __builtin_fmaf(block.sum[r], block.correction[r], sum);
    const Vec16 correction = vec::set1(block.correction[r]);
    float* o = block.o + r * o_stride;
    for (int64_t d = 0; d < o_stride; d += 16) vec::store(o + d, vec::mul(vec::load(o + d), correction));
  }
}

// m, l and o of a row from the parts before, or their start.
HVL_VEC void start_row(AttentionBlock& block, int r, int32_t head_dim, bool first_part) {
  float* o = block.o + r * int64_t{kv_padded(head_dim)};
  block.maximum[r] = first_part ? -__builtin_inff() : block.state[r][0];
  block.sum[r] = first_part ? 0.0f : block.state[r][1];
  for (int32_t d = 0; d < head_dim; d += 16) {
    vec::store(o + d, first_part ? vec::zero() : vec::load_n(block.out_row[r] + d, at_most(head_dim - d, 16)));
  }
}

// Values d .. d + 15 of a query row as integers, zeros behind its end.
HVL_VEC Ints query_integers(const float* x, int32_t d, int32_t head_dim, RowScale scale) {
  return to_row_scale(head_dim - d >= 16 ? vec::load(x + d) : vec::load_n(x + d, head_dim - d), scale);
}

// q as integers, and start_row.
template <Dots kDots>
HVL_VEC void start_block(AttentionBlock& block, int32_t head_dim, float scale, float limit, bool first_part) {
  for (int r = 0; r < block.rows; ++r) {
    const float* x = block.q_row[r];
    const RowScale q = row_scale(row_top(x, head_dim), limit);
    block.score_scale[r] = q.scale * scale;
    Vec16 sum = vec::zero();  // of integers: exact
    for (int32_t d = 0; d < head_dim; d += 16) {
      const Ints values = query_integers(x, d, head_dim, q);
      store_integers<kDots>(block.q + r * block.q_stride + d * value_bytes(kDots), values);
      sum = vec::add(sum, vec::to_float(values));
    }
    if constexpr (kDots == Dots::kBytes) block.start[r] = -128 * static_cast<int32_t>(vec::merge_add(sum));
    start_row(block, r, head_dim, first_part);
  }
  for (int r = block.rows; r < kAttentionQueryBlock; ++r) block.maximum[r] = 0.0f;
}

HVL_VEC void finish_block(const AttentionBlock& block, int32_t head_dim, bool last_part) {
  for (int r = 0; r < block.rows; ++r) {
    if (!last_part) {
      block.state[r][0] = block.maximum[r];
      block.state[r][1] = block.sum[r];
    }
    const Vec16 inverse = vec::set1(1.0f / block.sum[r]);
    const float* o = block.o + r * int64_t{kv_padded(head_dim)};
    for (int32_t d = 0; d < head_dim; d += 16) {
      const Vec16 sum = vec::load(o + d);
      // A run of keys that a row does not see may have made +0 of a -0: no difference is left.
      const Vec16 value = last_part ? vec::fma(sum, inverse, vec::zero()) : sum;
      if (head_dim - d >= 16) {
        vec::store(block.out_row[r] + d, value);
      } else {
        vec::store_n(block.out_row[r] + d, value, head_dim - d);
      }
    }
  }
}

struct Limits {
  float q, w;
};

// K and V of a head.
HVL_VEC void kv_sides(const AttentionArgs& args, int32_t kv_head, KvSide& k, KvSide& v) {
  const KvCache& cache = args.cache;
  const int64_t side = kv_side_bytes(1, cache.head_dim, cache.capacity, cache.bits) * kv_head;
  k = {cache.k + side, kv_block_bytes(cache.head_dim, cache.bits)};
  v = {cache.v + side, k.block_bytes};
}

template <Dots kDots>
HVL_VEC void attend(const AttentionArgs& args, AttentionBlock& block, int32_t kv_head, Limits limits) {
  const int32_t head_dim = args.cache.head_dim, padded = kv_padded(head_dim);
  KvSide k, v;
  kv_sides(args, kv_head, k, v);
  const int32_t keys = most_keys(block, 0, block.rows, 0, INT32_MAX);
  start_block<kDots>(block, head_dim, args.scale, limits.q, args.first);
  for (int32_t chunk = 0; chunk < keys; chunk += kAttentionChunk) {
    for (int base = 0; base < at_most(keys - chunk, kAttentionChunk); base += kSlice) {
      for (int first = 0; first < block.rows; first += kRowGroup) {
        const int rows = at_most(kRowGroup, block.rows - first);
        const int blocks = key_blocks(most_keys(block, first, rows, chunk + base, kSlice));
        qk_group<kDots, kRowGroup>(block, first, rows, k.values(chunk + base), k.block_bytes, head_dim, base, blocks);
      }
    }
    softmax_chunk<kDots>(block, k, v, chunk, args.first && chunk == 0, limits.w, padded);
    for (int base = 0; base < at_most(keys - chunk, kAttentionChunk); base += kSlice) {
      for (int first = 0; first < block.rows; first += kRowGroup) {
        const int rows = at_most(kRowGroup, block.rows - first);
        const int blocks = key_blocks(most_keys(block, first, rows, chunk + base, kSlice));
        pv_group<kDots, kRowGroup>(block, first, rows, v.values(chunk + base), v.block_bytes, padded, base, blocks);
      }
    }
  }
  finish_block(block, head_dim, args.last);
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

// A block from `unit` on; returns the unit after it. Short units of query heads that share the kv head go together, so that its keys and
// values are read once.
HVL_VEC int32_t next_block(const AttentionArgs& args, AttentionBlock& block, int32_t unit, int32_t end) {
  const int32_t blocks = (args.rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock;
  const int32_t units_per_kv = args.heads / args.cache.kv_heads * blocks, kv_head = unit / units_per_kv;
  block.rows = 0;
  do {
    const int32_t first_row = unit % blocks * kAttentionQueryBlock;
    const int32_t rows = at_most(args.rows - first_row, kAttentionQueryBlock);
    if (block.rows + rows > kAttentionQueryBlock) break;
    add_unit(args, block, unit / blocks, first_row, rows);
    ++unit;
  } while (unit < end && unit / units_per_kv == kv_head);
  return unit;
}

HVL_VEC void attend_block(const AttentionArgs& args, AttentionBlock& block, int32_t kv_head) {
  const int64_t padded = kv_padded(args.cache.head_dim);
  block.scores = reinterpret_cast<float*>(args.scratch);
  block.o = block.scores + kAttentionQueryBlock * kAttentionChunk;
  block.q = reinterpret_cast<uint8_t*>(block.o + kAttentionQueryBlock * padded);
  block.q_stride = 2 * padded;
  if (args.cache.bits == 16) {
    attend<Dots::kWords>(args, block, kv_head, {8191, 8191});
  } else if (args.activation_bits == 16) {
    attend<Dots::kWide>(args, block, kv_head, {32767, 32767});
  } else {
    attend<vec::kByteDots ? Dots::kBytes : Dots::kWide>(args, block, kv_head, {127, 255});
  }
}

HVL_VEC void attention_body(const AttentionArgs& args, int32_t begin, int32_t end) {
  const int32_t blocks = (args.rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock;
  AttentionBlock block;
  for (int32_t unit = begin; unit < end;) {
    const int32_t kv_head = unit / (args.heads / args.cache.kv_heads * blocks);
    unit = next_block(args, block, unit, end);
    attend_block(args, block, kv_head);
  }
}

}  // namespace
}  // namespace hvl

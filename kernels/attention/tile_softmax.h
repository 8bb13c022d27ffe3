// Softmax between the two products of tiles, over the sixteen rows of a block: integers in, bytes out.
//
// What bounds it: the two vector pipes, with about 24 instructions for 16 keys of a row: 4 from dots to scores, 16 to weights, 3 or 4 to
// bytes. Nothing waits for a sum across a vector: those are taken for many runs (rows) at once, as a tree of which each step halves the vectors.
#pragma once

#include "kernels/attention/attention_body.h"
#include "kernels/attention/tiles.h"

namespace hvl {
namespace {

inline constexpr int kTileInts = 256;  // of a stored tile
static_assert(kAttentionQueryBlock == 16 && kRuns == 8 && kAttentionRun == 32, "the shapes of tiles and trees");

// float(dot), rounded once, from the products of byte planes: kBytes has one, kWide hi * y and lo * y, x = 256 hi + lo. Below 2^24 all
// terms are exact, which holds for 16-bit q and w of at most 512 dims (512 * 255 * 127).
constexpr int planes(Dots dots) { return dots == Dots::kBytes ? 1 : 2; }

template <Dots kDots>
HVL_VEC Vec16 whole_dot(const int32_t* tile) {
  const Vec16 first = vec::to_float(vec::ints_load(tile));
  if constexpr (kDots == Dots::kBytes) return first;
  return vec::fma(first, vec::set1(256.0f), vec::to_float(vec::ints_load(tile + kTileInts)));
}

// How lanes are combined: floats added, their largest, or the largest of integers.
enum class Combine { kAdd, kMax, kMaxInts };

// One step of a tree over the lanes of vectors: lanes i and i + kStep of a into the lower ones of the result, of b into the upper ones; the
// steps 8, 4, 2, 1 are the order of merge_add.
template <Combine kCombine, int kStep>
HVL_VEC __m512 halve(__m512 a, __m512 b) {
  constexpr int kSwapPairs = 1 | 0 << 2 | 3 << 4 | 2 << 6, kSwapHalves = 2 | 3 << 2 | 0 << 4 | 1 << 6;
  constexpr __mmask16 kOfB = kStep == 8 ? 0xff00 : kStep == 4 ? 0xf0f0 : kStep == 2 ? 0xcccc : 0xaaaa;
  const __m512 kept = _mm512_mask_blend_ps(kOfB, a, b);
  __m512 moved;  // to where it meets what is kept
  if constexpr (kStep == 8) {
    moved = _mm512_shuffle_f32x4(a, b, kSwapHalves);
  } else if constexpr (kStep == 4) {
    moved = _mm512_permutex2var_ps(a, _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27), b);
  } else if constexpr (kStep == 2) {
    moved = _mm512_shuffle_ps(a, b, kSwapHalves);
  } else {
    moved = _mm512_permute_ps(_mm512_mask_blend_ps(kOfB, b, a), kSwapPairs);
  }
  if constexpr (kCombine == Combine::kAdd) return _mm512_add_ps(kept, moved);
  if constexpr (kCombine == Combine::kMax) return _mm512_max_ps(kept, moved);
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(kept), _mm512_castps_si512(moved)));
}

// Of rows[0 .. 15], each combined over its lanes: lane r is row r's.
template <Combine kCombine>
HVL_VEC Vec16 across(const float (&rows)[16][16]) {
  __m512 x[16];
HVL_UNROLL
  for (int i = 0; i < 8; ++i) x[i] = halve<kCombine, 8>(_mm512_load_ps(rows[i]), _mm512_load_ps(rows[i + 8]));
HVL_UNROLL
  for (int i = 0; i < 4; ++i) x[i] = halve<kCombine, 4>(x[i], x[i + 4]);
HVL_UNROLL
  for (int i = 0; i < 2; ++i) x[i] = halve<kCombine, 2>(x[i], x[i + 2]);
  return {halve<kCombine, 1>(x[0], x[1])};
}

// The same of eight vectors, as integers: lanes i and i + 8 are vector i's.
HVL_VEC __m512i across_runs(const Ints (&runs)[kRuns]) {
  __m512 x[kRuns];
HVL_UNROLL
  for (int i = 0; i < 4; ++i) x[i] = halve<Combine::kMaxInts, 4>(_mm512_castsi512_ps(runs[i].v), _mm512_castsi512_ps(runs[i + 4].v));
HVL_UNROLL
  for (int i = 0; i < 2; ++i) x[i] = halve<Combine::kMaxInts, 2>(x[i], x[i + 2]);
  const __m512i halves = _mm512_castps_si512(halve<Combine::kMaxInts, 1>(x[0], x[1]));
  return _mm512_max_epi32(halves, _mm512_shuffle_i64x2(halves, halves, 2 | 3 << 2 | 0 << 4 | 1 << 6));
}

// The larger magnitudes of a and x, as floats whose bits compare.
HVL_VEC Vec16 max_bits(Vec16 a, Vec16 x) {
  return {_mm512_castsi512_ps(vec::ints_max(vec::float_bits(a), vec::float_bits(vec::abs(x))).v)};
}

// The rows of a block beside what AttentionBlock has of them.
struct TileRows {
  alignas(64) float most[16][16];  // of the scores so far, lane by lane; then the sums of p
  alignas(64) float inverse[16][kRuns];
  int32_t least;  // keys that every row sees
};

// Products of the rows with kBlocks key blocks from key start + base on (for each its planes, tiles) to scores, and
// the largest of each lane.
template <Dots kDots, int kBlocks>
HVL_VEC void to_scores(AttentionBlock& block, TileRows& rows, const int32_t* products, const KvSide& k, int32_t start, int base) {
  constexpr int kBlockInts = planes(kDots) * kTileInts, kKeys = kBlocks * kKvKeyBlock;
  float* s = block.scores + base;
  const int32_t* tile = products;
  if (rows.least - start - base >= kKeys) {
    Vec16 scale[kBlocks];
HVL_UNROLL
    for (int w = 0; w < kBlocks; ++w) scale[w] = vec::load(k.scales(start + base + 16 * w));
    for (int r = 0; r < block.rows; ++r, s += kAttentionChunk, tile += 16) {
      const Vec16 factor = vec::set1(block.score_scale[r]);
      Vec16 most = vec::load(rows.most[r]);
HVL_UNROLL
      for (int w = 0; w < kBlocks; ++w) {
        const Vec16 score = vec::mul(vec::mul(whole_dot<kDots>(tile + w * kBlockInts), factor), scale[w]);
        vec::store(s + 16 * w, score);
        most = vec::max(most, score);
      }
      vec::store(rows.most[r], most);
    }
  } else {
    for (int r = 0; r < block.rows; ++r, s += kAttentionChunk, tile += 16) {
      const Vec16 factor = vec::set1(block.score_scale[r]);
      Vec16 most = vec::load(rows.most[r]);
      const int left = at_most(block.visible[r] - start - base, kKeys);
      for (int w = 0; 16 * w < left; ++w) {
        const Vec16 dot = whole_dot<kDots>(tile + w * kBlockInts);
        const Vec16 score = vec::mul(vec::mul(dot, factor), vec::load(k.scales(start + base + 16 * w)));
        vec::store(s + 16 * w, score);
        most = vec::max(most, vec::first_n(score, at_most(left - 16 * w, 16), vec::set1(-__builtin_inff())));
      }
      vec::store(rows.most[r], most);
    }
  }
}

// exp of scores, all at most 0. Below -104 it is 0, and lanes that are left out cost nothing: results that underflow would take the
// processor some hundred cycles.
HVL_VEC Vec16 exp_or_zero(Vec16 x) {
  const __mmask16 seen = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(-104.0f), _CMP_NLT_UQ);
  const ExpParts e = exp_parts(x);
  return {_mm512_maskz_scalef_ps(seen, vec::fma(e.r, e.tail, vec::set1(1.0f)).v, e.n.v)};
}

// Scores of row r to w = p * s_V, zeros where it sees nothing up to key `end`; the sums of p by lanes, and the scale of each run.
HVL_VEC void weigh(AttentionBlock& block, TileRows& rows, int r, const KvSide& v, int32_t start, int end, float limit) {
  float* s = block.scores + r * kAttentionChunk;
  const int n = most_keys(block, r, 1, start, kAttentionChunk);
  const Vec16 most = vec::set1(block.maximum[r]);
  Vec16 sum = vec::zero();
  Ints top[kRuns];
HVL_UNROLL
  for (int run = 0; run < kRuns; ++run) top[run] = vec::ints_zero();
  const int whole = n / kAttentionRun;  // runs
  for (int run = 0; run < whole; ++run, s += kAttentionRun) {
    const float* scales = v.scales(start + run * kAttentionRun);
    const Vec16 p = exp_or_zero(vec::sub(vec::load(s), most)), w = vec::mul(p, vec::load(scales));
    const Vec16 p1 = exp_or_zero(vec::sub(vec::load(s + 16), most)), w1 = vec::mul(p1, vec::load(v.scales(start + run * kAttentionRun + 16)));
    sum = vec::add(vec::add(sum, p), p1);
    vec::store(s, w);
    vec::store(s + 16, w1);
    top[run] = vec::ints_max(vec::float_bits(w), vec::float_bits(w1));
  }
  for (int key = whole * kAttentionRun; key < end; key += 16, s += 16) {
    Vec16 w = vec::zero();
    if (key < n) {
      const int left = at_most(n - key, 16);
      const Vec16 p = vec::first_n(exp_or_zero(vec::sub(vec::load(s), most)), left, vec::zero());
      w = vec::first_n(vec::mul(p, vec::load(v.scales(start + key))), left, vec::zero());
      sum = vec::add(sum, p);
      top[key / kAttentionRun] = vec::ints_max(top[key / kAttentionRun], vec::float_bits(w));
    }
    vec::store(s, w);
  }
  vec::store(rows.most[r], sum);
  // The rule of row_scale, for all runs.
  const __m256i bits = _mm512_castsi512_si256(across_runs(top));
  const __m256 m = _mm256_castsi256_ps(bits), full = _mm256_set1_ps(limit);
  const __mmask8 some = _mm256_cmp_ps_mask(m, _mm256_set1_ps(1e-30f), _CMP_GE_OQ);
  const __mmask8 bad = _mm256_cmpge_epi32_mask(bits, _mm256_set1_epi32(0x7f800000));
  const __mmask8 good = some & ~bad;
  _mm256_storeu_ps(block.weight_scale[r], _mm256_mask_mov_ps(_mm256_maskz_div_ps(good, m, full), bad, _mm256_set1_ps(__builtin_nanf(""))));
  _mm256_store_ps(rows.inverse[r], _mm256_maskz_div_ps(good, full, m));
}

// Sixteen weights as integers. Those of a run of zeros or NaN have inverse 0 and are 0; of NaN times it, what packs to 0 or does not matter.
HVL_VEC __m512i weight_integers(const float* w, float inverse) {
  return vec::round_to_ints(vec::mul(vec::load(w), vec::set1(inverse))).v;
}

// Bytes of two vectors of 16-bit integers: 32 of hi, then 32 of lo.
HVL_VEC __m512i byte_planes(__m512i a, __m512i b) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
  const __m512i grouped = _mm512_shuffle_epi8(_mm512_packs_epi32(a, b), order);  // of each four lanes of a and b: lo, lo, hi, hi
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13), grouped);
}

// w of row r to bytes, at the start of its scores: 64 keys (kBytes) or a run of 32 (planes) in each 64 bytes.
template <Dots kDots>
HVL_VEC void to_bytes(AttentionBlock& block, const TileRows& rows, int r, int end) {
  const float* s = block.scores + r * kAttentionChunk;
  uint8_t* out = reinterpret_cast<uint8_t*>(block.scores + r * kAttentionChunk);  // shorter: never overtakes what is still to be read
  const float* inverse = rows.inverse[r];
  for (int key = 0; key < end; key += kSlice, s += kSlice, inverse += 2) {
    const __m512i a = weight_integers(s, inverse[0]), b = weight_integers(s + 16, inverse[0]);
    const __m512i c = weight_integers(s + 32, inverse[1]), d = weight_integers(s + 48, inverse[1]);
    if constexpr (kDots == Dots::kBytes) {
      const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      vec::ints_store(out, {_mm512_permutexvar_epi32(order, bytes)});
      out += 64;
    } else {
      vec::ints_store(out, {byte_planes(a, b)});
      vec::ints_store(out + 64, {byte_planes(c, d)});
      out += 128;
    }
  }
}

// All of it: scores (whose lanes' largest are in `rows`) to bytes of weights up to key `end`, a multiple of a slice; maxima, sums, corrections.
template <Dots kDots>
HVL_HOT_LOOP static void softmax_rows(AttentionBlock& block, TileRows& rows, const KvSide& v, int32_t start, bool first, float limit, int end,
                                      const uint8_t* values, int64_t value_bytes) {
  for (int r = block.rows; r < 16; ++r) vec::store(rows.most[r], vec::zero());
  const Vec16 old = vec::load(block.maximum), maximum = across<Combine::kMax>(rows.most);
  vec::store(block.correction, first ? vec::zero() : exp(vec::sub(old, maximum)));
  vec::store(block.maximum, maximum);
  const int64_t share = (value_bytes / block.rows + 63) / 64 * 64;  // of what is multiplied next, towards the first cache with each row
  for (int r = 0; r < block.rows; ++r, values += share) {
    for (int64_t i = 0; i < share; i += 64) _mm_prefetch(values + i, _MM_HINT_T0);
    tiles_stay_awake();
    weigh(block, rows, r, v, start, end, limit);
  }
  // A row that sees no key here keeps its sum: its correction is exp(0) = 1.
  vec::store(block.sum, vec::fma(vec::load(block.sum), vec::load(block.correction), across<Combine::kAdd>(rows.most)));
  for (int r = 0; r < block.rows; ++r) {
    if (r % 4 == 0) tiles_stay_awake();
    to_bytes<kDots>(block, rows, r, end);
  }
}

}  // namespace
}  // namespace hvl

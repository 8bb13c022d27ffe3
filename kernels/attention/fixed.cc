// Softmax attention over 8-bit keys and values in integers (docs/integer_arithmetic.md, section Attention). Between the parts of a row's keys
// `out` holds sums, `state` a word of the running top and the sums' exponent, and the running total. Caches of 16 bits are not this
// arithmetic's: such a call does nothing.
#include "kernels/attention/attention.h"
#include "kernels/common/fixed.h"
#include "kernels/common/fixed_exp2.h"

namespace hvl {
namespace {

using fixed::scaled_exponent;
using fixed::scaled_mantissa;

constexpr int32_t kTotalFraction = 22;  // of the total of one chunk's probabilities
constexpr int32_t kLeastExponent = -128;
constexpr int32_t kWeightLimit = 32767;

// The scale of the scores with the change to base 2, as mantissa in [2^30, 2^31) * 2^exponent.
struct ScoreScale {
  int32_t mantissa, exponent;
};
ScoreScale score_scale(float scale) {
  constexpr int64_t kLog2E = 1549082005;  // log2(e) with 30 fraction bits
  const fixed::Scalar s = fixed::scalar(scale);
  if (s.mantissa == 0) return {0, 0};
  const int64_t product = s.mantissa * kLog2E;
  const int32_t down = 64 - __builtin_clzll(uint64_t(product)) - 31;
  return {int32_t(down >= 0 ? product >> down : product << -down), s.exponent - 30 + down};
}

// What is known of one query row between chunks.
struct Row {
  int32_t seen;      // keys it sees, from 0 on
  int32_t exponent;  // of its integers: scaled query = integer * 2^exponent
  int32_t top;       // scores are taken relative to this power of two
  int32_t total;     // of the probabilities, kTotalFraction - doublings(chunks so far) fraction bits
  int32_t sums;      // exponent of the sums in `out`
};

// The bits that sums of chunks 0 .. chunk may have grown by.
int32_t doublings(int32_t chunk) { return fixed::width(chunk); }

void query_integers(const int32_t* q, int32_t n, int32_t padded, const ScoreScale& scale, int16_t* out, int32_t* exponent) {
  const int32_t lift = 31 - fixed::width(fixed::any_magnitude(q, n));
  for (int32_t d = 0; d < padded; ++d) {
    const int32_t x = d < n ? fixed::mul31(int32_t(uint32_t(q[d]) << lift), scale.mantissa) : 0;
    out[d] = int16_t(fixed::clamp(fixed::round_down(x, 16), 32767));
  }
  *exponent = scale.exponent + 47 - lift - fixed::kFraction;
}

// n keys, from the block that holds the first on, as rows.
void unpack_keys(const uint8_t* block, int32_t n, int32_t head_dim, int8_t* out, int32_t* words) {
  const int32_t padded = kv_padded(head_dim);
  for (int32_t k = 0; k < n; k += kKvKeyBlock, block += kv_block_bytes(head_dim, 8)) {
    __builtin_memcpy(words + k, block, kKvScaleBytes);
    const uint8_t* from = block + kKvScaleBytes;
    for (int32_t d = 0; d < padded; d += 4) {
      for (int32_t key = 0; key < kKvKeyBlock; ++key, from += 4) {
        for (int32_t b = 0; b < 4; ++b) out[(k + key) * padded + d + b] = int8_t(from[b]);
      }
    }
  }
}

// n values as rows, one a dimension, of kAttentionChunk.
void unpack_values(const uint8_t* block, int32_t n, int32_t head_dim, int8_t* out, int32_t* words) {
  const int32_t padded = kv_padded(head_dim);
  for (int32_t k = 0; k < n; k += kKvKeyBlock, block += kv_block_bytes(head_dim, 8)) {
    __builtin_memcpy(words + k, block, kKvScaleBytes);
    const uint8_t* from = block + kKvScaleBytes;
    for (int32_t key = 0; key < kKvKeyBlock; key += 4) {
      for (int32_t d = 0; d < padded; ++d, from += 4) {
        for (int32_t b = 0; b < 4; ++b) out[d * kAttentionChunk + k + key + b] = int8_t(from[b]);
      }
    }
  }
}

int32_t dot(const int16_t* a, const int8_t* b, int32_t n) {
  int32_t sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void scores_of(const int16_t* q, const Row& row, const int8_t* keys, const int32_t* words, int32_t n, int32_t padded, int32_t* scores) {
  for (int32_t k = 0; k < n; ++k) {
    const int32_t product = fixed::mul15(dot(q, keys + k * padded, padded), scaled_mantissa(words[k]));
    scores[k] = fixed::shift_down(product, -(15 + fixed::kFraction + row.exponent + scaled_exponent(words[k])));
  }
}

// scores of n keys -> weights in integers of one scale; the row's top, total, and what its sums must be shifted down by. Returns the exponent of
// the dots of the weights with values, kLeastExponent when there are none.
int32_t weights_of(const int32_t* scores, const int32_t* value_words, int32_t n, int32_t chunk, bool first, Row& row, int32_t* rescale,
                   int16_t* weights) {
  int32_t best = scores[0], exponent = scaled_exponent(value_words[0]);
  for (int32_t k = 1; k < n; ++k) {
    best = scores[k] > best ? scores[k] : best;
    exponent = scaled_exponent(value_words[k]) > exponent ? scaled_exponent(value_words[k]) : exponent;
  }
  const int32_t top = (best >> fixed::kFraction) + 1, grown = first ? top : top > row.top ? top : row.top;
  *rescale = first ? 0 : grown - row.top;
  row.top = grown;
  const int32_t reference = fixed::shift_down(grown, -fixed::kFraction);
  int32_t products[kAttentionChunk], total = 0, any = 0;
  for (int32_t k = 0; k < n; ++k) {
    const int32_t p = fixed::exp2_of(fixed::sub(scores[k], reference));
    total += p >> (fixed::kExp2Fraction - kTotalFraction);
    products[k] = fixed::shift_down(fixed::mul15(p, scaled_mantissa(value_words[k])), exponent - scaled_exponent(value_words[k]));
    any |= products[k];
  }
  const int32_t growth = doublings(chunk) - (chunk > 0 ? doublings(chunk - 1) : 0);
  row.total = (first ? 0 : fixed::shift_down(row.total, *rescale + growth)) + (total >> doublings(chunk));
  const int32_t bits = fixed::width(any), down = bits > 15 ? bits - 15 : 0;
  for (int32_t k = 0; k < n; ++k) weights[k] = int16_t(fixed::clamp(fixed::round_down(products[k], down), kWeightLimit));
  for (int32_t k = n; k < kAttentionChunk; ++k) weights[k] = 0;
  return any == 0 ? kLeastExponent : down + exponent + 15 - fixed::kExp2Fraction;
}

// sums[d] of n dimensions -> activations.
void finish(int32_t* sums, int32_t n, const Row& row) {
  const int32_t spare = 31 - fixed::width(row.total);
  const uint64_t inverse = (uint64_t{1} << 61) / (uint64_t(row.total) << spare);  // in (2^30, 2^31]
  const int32_t factor = inverse > uint64_t(fixed::kMost) ? fixed::kMost : int32_t(inverse);
  const int32_t grown = doublings((row.seen - 1) / kAttentionChunk);
  const int32_t down = 61 - 31 - fixed::kFraction - (kTotalFraction - grown) - spare - row.sums;
  for (int32_t d = 0; d < n; ++d) sums[d] = fixed::round_down(fixed::mul31(sums[d], factor), down);
}

// One block of query rows of a head.
void attend(const AttentionArgs& args, int32_t head, int32_t row0) {
  const KvCache& cache = args.cache;
  const int32_t head_dim = cache.head_dim, padded = kv_padded(head_dim), kv_head = head / (args.heads / cache.kv_heads);
  const int32_t rows = args.rows - row0 < kAttentionQueryBlock ? args.rows - row0 : kAttentionQueryBlock;
  const int64_t side = int64_t{kv_head} * kv_side_bytes(1, head_dim, cache.capacity, 8), block_bytes = kv_block_bytes(head_dim, 8);
  const auto* q = reinterpret_cast<const int32_t*>(args.q) + row0 * args.q_stride + int64_t{head} * head_dim;
  auto* out = reinterpret_cast<int32_t*>(args.out) + row0 * args.out_stride + int64_t{head} * head_dim;
  auto* state = reinterpret_cast<int32_t*>(args.state) + row0 * args.state_stride + int64_t{head} * 2;
  auto* unpacked = reinterpret_cast<int8_t*>(args.scratch);  // keys or values of a chunk
  alignas(64) int16_t integers[kAttentionQueryBlock][kAttentionMaxHeadDim], weights[kAttentionChunk];
  int32_t scores[kAttentionQueryBlock][kAttentionChunk], words[kAttentionChunk];
  Row row[kAttentionQueryBlock];
  const ScoreScale scale = score_scale(args.scale);
  int32_t most_seen = 0;
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t sees = args.position + row0 + r + 1;
    row[r] = {args.causal && sees < args.key_end ? sees : args.key_end, 0, 0, 0, kLeastExponent};
    most_seen = row[r].seen > most_seen ? row[r].seen : most_seen;
    query_integers(q + r * args.q_stride, head_dim, padded, scale, integers[r], &row[r].exponent);
    if (args.first) {
      for (int32_t d = 0; d < head_dim; ++d) out[r * args.out_stride + d] = 0;
    } else {
      const int32_t word = state[r * args.state_stride];
      row[r].top = word >> 8;
      row[r].sums = (word & 255) + kLeastExponent;
      row[r].total = state[r * args.state_stride + 1];
    }
  }
  for (int32_t k0 = args.key_begin; k0 < most_seen; k0 += kAttentionChunk) {
    const int32_t chunk = k0 / kAttentionChunk, keys = most_seen - k0 < kAttentionChunk ? most_seen - k0 : kAttentionChunk;
    const int64_t at = side + (k0 - args.key_begin) / kKvKeyBlock * block_bytes;
    const auto seen_of = [&](const Row& r) { return r.seen - k0 < keys ? r.seen - k0 : keys; };
    unpack_keys(cache.k + at, keys, head_dim, unpacked, words);
    for (int32_t r = 0; r < rows; ++r) scores_of(integers[r], row[r], unpacked, words, seen_of(row[r]), padded, scores[r]);
    unpack_values(cache.v + at, keys, head_dim, unpacked, words);
    for (int32_t r = 0; r < rows; ++r) {
      const int32_t seen = seen_of(row[r]);
      if (seen <= 0) continue;
      int32_t rescale;
      const int32_t exponent = weights_of(scores[r], words, seen, chunk, k0 == 0, row[r], &rescale, weights);
      const int32_t growth = doublings(chunk) - (chunk > 0 ? doublings(chunk - 1) : 0), before = row[r].sums - rescale;
      int32_t next = before + growth > exponent + doublings(chunk) ? before + growth : exponent + doublings(chunk);
      next = next > kLeastExponent ? next : kLeastExponent;
      row[r].sums = next;
      const int32_t padded_keys = kv_padded_keys(seen);
      for (int32_t d = 0; d < head_dim; ++d) {
        int32_t& sum = out[r * args.out_stride + d];
        sum = fixed::shift_down(sum, next - before) + fixed::shift_down(dot(weights, unpacked + d * kAttentionChunk, padded_keys), next - exponent);
      }
    }
  }
  for (int32_t r = 0; r < rows; ++r) {
    if (args.last) {
      finish(out + r * args.out_stride, head_dim, row[r]);
    } else {
      state[r * args.state_stride] = row[r].top * 256 + (row[r].sums - kLeastExponent);
      state[r * args.state_stride + 1] = row[r].total;
    }
  }
}

}  // namespace

void attention_fixed(const AttentionArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.cache.bits != 8) return;
  const int32_t blocks = (args.rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock;
  for (int32_t unit = begin; unit < end; ++unit) attend(args, unit / blocks, unit % blocks * kAttentionQueryBlock);
}

}  // namespace hvl

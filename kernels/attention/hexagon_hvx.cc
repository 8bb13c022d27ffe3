// Attention of the integer arithmetic in HVX. What is of one number a row and chunk is plain C++ for up to 16 rows in turn; the numbers
// come from vectors through memory, sixteen at once.
//
// What bounds it, in packets for a row and 256 keys of 64 dims where 16 rows are at work: 234 for the dots with keys and their scores, 169
// for those with values (128 each is what two vrmpy a packet allow), some 90 from scores to products, 20 to weights, 80 for numbers of rows
// and sums across lanes, and once for all chunks 65 for the query's integers and 60 to divide. One row alone takes twice as many for its
// dots, for vectors are loaded and prepared for it only.
#include "kernels/attention/hexagon_softmax.h"

namespace hvl {
namespace {

using namespace hexagon;

constexpr int32_t kRows = kAttentionQueryBlock;
static_assert(kRowBytes == kAttentionChunk * int{sizeof(int32_t)} && kQueryLow == kAttentionMaxHeadDim && kRows == kMostRows);

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

int32_t doublings(int32_t chunk) { return fixed::width(chunk); }

// A unit's memory: in the call's scratch and on the stack.
struct Block {
  const AttentionArgs* args;
  int32_t rows;
  int32_t padded, blocks_of_32;  // dims
  Vector* scores;                // (16, 8): scores, products, or planes of weights of one chunk
  Vector* sums;                  // (16, blocks_of_32)
  Row row[kRows];
  int32_t query_starts[kRows], weight_starts[kRows];  // of dots: -128 times the sums of the rows' integers
  int32_t next_shift[kRows], dot_shift[kRows];        // what the chunk shifts sums and dots down by
  Vector few_sums[kRows];                             // instead, where a head has less than a vector, for which the scratch is too small
  alignas(kVectorBytes) uint8_t queries[kRows * kRowBytes];
  Chunk chunk;
};

void load_queries(Block& b, const int32_t* q) {
  const AttentionArgs& args = *b.args;
  const int32_t n = args.cache.head_dim;
  const ScoreScale scale = score_scale(args.scale);
  Vector lanes[kRows];
  RowNumbers numbers;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int32_t* from = q + r * args.q_stride;
    Vector any = zero();
    each_vector(
        n, [&](int32_t d, int32_t count) __attribute__((always_inline)) { any = Q6_V_vor_VV(any, magnitude(load_row(from + d, count))); });
    lanes[r] = any;
  }
  across_rows<Or>(lanes, b.rows, numbers);
  for (int32_t r = 0; r < b.rows; ++r) {
    const int32_t lift = 31 - fixed::width(numbers.of(r));
    b.row[r].exponent = scale.exponent + 47 - lift - fixed::kFraction;
    auto* planes = reinterpret_cast<Vector*>(b.queries + r * kRowBytes);
    const int32_t* from = q + r * args.q_stride;
    const auto integers = [&](int32_t d, int32_t count) __attribute__((always_inline)) {
      return clamp(round_down<16>(mul31(Q6_Vw_vasl_VwR(load_row(from + d, count), lift), splat(scale.mantissa))), 32767);
    };
    Vector sum = zero();
    for (int32_t d = 0; d < n; d += 4 * kLanes, ++planes) {
      Vector x[4];
      if (d + 4 * kLanes <= n) {
        for (int32_t v = 0; v < 4; ++v) x[v] = integers(d + v * kLanes, kLanes);
      } else {
        for (int32_t v = 0; v < 4; ++v) x[v] = d + v * kLanes < n ? integers(d + v * kLanes, n - d - v * kLanes) : zero();
      }
      for (int32_t v = 0; v < 4; ++v) sum = Q6_Vw_vadd_VwVw(sum, x[v]);
      to_planes(x, planes[0], planes[kQueryLow / kVectorBytes]);
    }
    lanes[r] = sum;
  }
  across_rows<Add>(lanes, b.rows, numbers);
  for (int32_t r = 0; r < b.rows; ++r) b.query_starts[r] = -128 * numbers.of(r);
}

void load_words(Block& b, const uint8_t* k, const uint8_t* v, int32_t blocks, int32_t block_bytes) {
  Vector largest = splat(INT32_MIN);
  for (int32_t i = 0; 2 * i < blocks; ++i, k += 2 * block_bytes, v += 2 * block_bytes) {
    const bool two = 2 * i + 1 < blocks;
    const Vector words = pair_words(k, two, block_bytes), exponents = exponents_of(words);
    b.chunk.key_words[i] = words;
    b.chunk.key_shifts[i] = Q6_Vw_vsub_VwVw(splat(-15 - fixed::kFraction), exponents);
    largest = Q6_Vw_vmax_VwVw(largest, exponents);
    b.chunk.value_words[i] = pair_words(v, two, block_bytes);
    b.chunk.value_exponents[i] = exponents_of(b.chunk.value_words[i]);
  }
  b.chunk.key_exponent = first_lane(across<Max>(largest));
}

// Scores of kQueries rows from `first` on with the blocks from 2 * begin on, kPairs pairs of them at once while there are so many. Returns
// the first pair left. kSaturate: where scores may leave int32.
template <int kQueries, int kPairs, bool kSaturate>
__attribute__((noinline)) int32_t scores_of(Block& b, int32_t first, const uint8_t* keys, int32_t begin, int32_t blocks,
                                            int32_t block_bytes) {
  for (; begin + kPairs <= (blocks + 1) / 2; begin += kPairs) {
    BlockPair pairs[kPairs];
    for (int p = 0; p < kPairs; ++p) {
      const int32_t block = 2 * (begin + p);
      pairs[p] = block_pair(keys + block * block_bytes, block + 1 < blocks, block_bytes);
    }
    Vector dots[kQueries][kPairs];
    key_dots<kQueries, kPairs>(pairs, b.queries + first * kRowBytes, b.query_starts + first, b.padded, dots);
    for (int p = 0; p < kPairs; ++p) {
      for (int r = 0; r < kQueries; ++r) {
        const Vector shift = Q6_Vw_vsub_VwVw(b.chunk.key_shifts[begin + p], splat(b.row[first + r].exponent));
        const Vector product = mul15(dots[r][p], b.chunk.key_words[begin + p]);
        dots[r][p] = kSaturate ? shift_down(product, shift) : shift_right(product, shift);
      }
    }
    for (int p = 0; p < kPairs; ++p) {
      for (int r = 0; r < kQueries; ++r) b.scores[(first + r) * kChunkVectors + begin + p] = dots[r][p];
    }
  }
  return begin;
}

template <int kQueries, bool kSaturate>
void scores_of_rows(Block& b, int32_t first, const uint8_t* keys, int32_t blocks, int32_t block_bytes) {
  constexpr int kPairs = kQueries == 4 ? 1 : 2;
  const int32_t left = scores_of<kQueries, kPairs, kSaturate>(b, first, keys, 0, blocks, block_bytes);
  if constexpr (kPairs > 1) scores_of<kQueries, 1, kSaturate>(b, first, keys, left, blocks, block_bytes);
}

template <bool kSaturate>
void scores_of_block(Block& b, const uint8_t* keys, int32_t blocks, int32_t block_bytes) {
  int32_t r = 0;
  for (; r + 4 <= b.rows; r += 4) scores_of_rows<4, kSaturate>(b, r, keys, blocks, block_bytes);
  for (; r + 2 <= b.rows; r += 2) scores_of_rows<2, kSaturate>(b, r, keys, blocks, block_bytes);
  for (; r < b.rows; ++r) scores_of_rows<1, kSaturate>(b, r, keys, blocks, block_bytes);
}

void scores_of_chunk(Block& b, const uint8_t* keys, int32_t blocks, int32_t block_bytes) {
  int32_t largest = INT32_MIN;
  for (int32_t r = 0; r < b.rows; ++r) largest = most(largest, b.row[r].exponent);
  const bool saturate = 15 + fixed::kFraction + largest + b.chunk.key_exponent > 0;
  saturate ? scores_of_block<true>(b, keys, blocks, block_bytes) : scores_of_block<false>(b, keys, blocks, block_bytes);
}

// Scores of the chunk from key0 on, of `keys` keys, to planes of weights; rows' tops and totals, what sums and dots must be shifted down
// by.
void softmax(Block& b, int32_t key0, int32_t keys) {
  const int32_t chunk = key0 / kAttentionChunk, grown_by = doublings(chunk), growth = grown_by - (chunk > 0 ? doublings(chunk - 1) : 0);
  Vector lanes[kRows], products[kRows];
  RowNumbers best, total, any, weights;
  int32_t rescale[kRows], exponent[kRows], seen[kRows];
  const int32_t common = value_exponent(b.chunk, keys);
  for (int32_t r = 0; r < b.rows; ++r) {
    seen[r] = least(b.row[r].seen - key0, keys);
    lanes[r] = best_of(b.scores + r * kChunkVectors, seen[r]);
  }
  across_rows<Max>(lanes, b.rows, best);
  for (int32_t r = 0; r < b.rows; ++r) {
    Row& row = b.row[r];
    const int32_t top = (best.of(r) >> fixed::kFraction) + 1, grown = key0 == 0 ? top : most(top, row.top);
    if (seen[r] > 0) {
      rescale[r] = key0 == 0 ? 0 : grown - row.top;
      row.top = grown;
    }
    exponent[r] = seen[r] == keys || seen[r] <= 0 ? common : value_exponent(b.chunk, seen[r]);
    const Sums sums = products_of(b.scores + r * kChunkVectors, b.chunk, seen[r], fixed::shift_down(grown, -fixed::kFraction), exponent[r]);
    lanes[r] = sums.total;
    products[r] = sums.any;
  }
  across_rows<Add>(lanes, b.rows, total);
  across_rows<Or>(products, b.rows, any);
  for (int32_t r = 0; r < b.rows; ++r) {
    Row& row = b.row[r];
    const int32_t bits = fixed::width(any.of(r)), down = bits > 15 ? bits - 15 : 0;
    lanes[r] = weights_of(b.scores + r * kChunkVectors, down);
    if (seen[r] <= 0) {  // all weights are 0
      b.next_shift[r] = 0;
      b.dot_shift[r] = 31;
      continue;
    }
    row.total = (key0 == 0 ? 0 : fixed::shift_down(row.total, rescale[r] + growth)) + (total.of(r) >> grown_by);
    const int32_t of_dots = any.of(r) == 0 ? kLeastExponent : down + exponent[r] + 15 - fixed::kExp2Fraction;
    const int32_t before = row.sums - rescale[r];
    row.sums = most(most(before + growth, of_dots + grown_by), kLeastExponent);
    b.next_shift[r] = row.sums - before;
    b.dot_shift[r] = row.sums - of_dots;
  }
  across_rows<Add>(lanes, b.rows, weights);
  for (int32_t r = 0; r < b.rows; ++r) b.weight_starts[r] = -128 * weights.of(r);
}

// Adds what kWeights rows from `first` on take of kVectors blocks of 32 dims.
template <int kWeights, int kVectors, bool kHalf>
__attribute__((noinline)) void add_values(Block& b, int32_t first, int32_t v0, const uint8_t* block, int32_t blocks) {
  Vector dots[kWeights][kVectors];
  const auto* weights = reinterpret_cast<const uint8_t*>(b.scores) + first * kRowBytes;
  value_dots<kWeights, kVectors, kHalf>(block + kKvScaleBytes + v0 * kVectorBytes, blocks, b.padded, weights, b.weight_starts + first,
                                        dots);
  for (int r = 0; r < kWeights; ++r) {
    Vector* sums = b.sums + (first + r) * b.blocks_of_32 + v0;
    const int32_t before = least(b.next_shift[first + r], 31), down = least(b.dot_shift[first + r], 31);
    for (int v = 0; v < kVectors; ++v) sums[v] = Q6_Vw_vadd_VwVw(Q6_Vw_vasr_VwR(sums[v], before), Q6_Vw_vasr_VwR(dots[r][v], down));
  }
}

template <int kWeights>
void add_values_of_rows(Block& b, int32_t first, const uint8_t* block, int32_t blocks) {
  constexpr int kVectors = kWeights == 4 ? 2 : 4;
  const int32_t whole = b.padded / kLanes;
  int32_t v = 0;
  for (; v + kVectors <= whole; v += kVectors) add_values<kWeights, kVectors, false>(b, first, v, block, blocks);
  for (; v < whole; ++v) add_values<kWeights, 1, false>(b, first, v, block, blocks);
  if (v < b.blocks_of_32) add_values<kWeights, 1, true>(b, first, v, block, blocks);
}

void add_values_of_chunk(Block& b, const uint8_t* block, int32_t blocks) {
  int32_t r = 0;
  for (; r + 4 <= b.rows; r += 4) add_values_of_rows<4>(b, r, block, blocks);
  for (; r + 2 <= b.rows; r += 2) add_values_of_rows<2>(b, r, block, blocks);
  for (; r < b.rows; ++r) add_values_of_rows<1>(b, r, block, blocks);
}

void load_sums(Block& b, const int32_t* out, const int32_t* state) {
  const int32_t n = b.args->cache.head_dim;
  for (int32_t r = 0; r < b.rows; ++r) {
    Vector* sums = b.sums + r * b.blocks_of_32;
    b.row[r].sums = kLeastExponent;
    b.row[r].top = b.row[r].total = 0;
    if (b.args->first) {
      for (int32_t v = 0; v < b.blocks_of_32; ++v) sums[v] = zero();
    } else {
      const int32_t word = state[r * b.args->state_stride];
      b.row[r].top = word >> 8;
      b.row[r].sums = (word & 255) + kLeastExponent;
      b.row[r].total = state[r * b.args->state_stride + 1];
      for (int32_t v = 0; v * kLanes < n; ++v) sums[v] = load_row(out + r * b.args->out_stride + v * kLanes, n - v * kLanes);
    }
  }
}

// Sums to `out` as they are, with what goes on with them in `state`.
void store_sums(const Block& b, int32_t* out, int32_t* state) {
  const int32_t n = b.args->cache.head_dim;
  for (int32_t r = 0; r < b.rows; ++r, out += b.args->out_stride, state += b.args->state_stride) {
    const Vector* sums = b.sums + r * b.blocks_of_32;
    state[0] = b.row[r].top * 256 + (b.row[r].sums - kLeastExponent);
    state[1] = b.row[r].total;
    for (int32_t d = 0; d < n; d += kLanes) store_row(out + d, n - d, *sums++);
  }
}

// Sums to activations.
void finish(const Block& b, int32_t* out) {
  const int32_t n = b.args->cache.head_dim;
  RowNumbers totals = {}, near;  // with 31 bits
  int32_t spare[kRows];
  for (int32_t r = 0; r < b.rows; ++r) {
    const int32_t total = most(b.row[r].total, 1);  // less only with a state that is none
    spare[r] = 31 - fixed::width(total);
    totals.pairs[2 * r] = total << spare[r];
  }
  *reinterpret_cast<Vector*>(near.pairs) = inverses(*reinterpret_cast<const Vector*>(totals.pairs));
  for (int32_t r = 0; r < b.rows; ++r, out += b.args->out_stride) {
    const Row& row = b.row[r];
    const Vector* sums = b.sums + r * b.blocks_of_32;
    const uint32_t inverse = quotient(int64_t{1} << 61, totals.of(r), near.of(r));  // in (2^30, 2^31]
    const Vector factor = splat(inverse > uint32_t{fixed::kMost} ? fixed::kMost : int32_t(inverse));
    const int32_t grown = doublings((row.seen - 1) / kAttentionChunk);
    const int32_t down = 61 - 31 - fixed::kFraction - (kTotalFraction - grown) - spare[r] - row.sums;
    each_vector(n, [&](int32_t d, int32_t count)
                       __attribute__((always_inline)) { store_row(out + d, count, round_down(mul31(*sums++, factor), down)); });
  }
}

// One block of query rows of a head.
void attend(const AttentionArgs& args, int32_t head, int32_t row0) {
  const KvCache& cache = args.cache;
  const int32_t padded = kv_padded(cache.head_dim), block_bytes = int32_t(kv_block_bytes(cache.head_dim, 8));
  const int64_t side = head / (args.heads / cache.kv_heads) * kv_side_bytes(1, cache.head_dim, cache.capacity, 8);
  const int64_t column = int64_t{head} * cache.head_dim;
  auto* out = reinterpret_cast<int32_t*>(args.out) + row0 * args.out_stride + column;
  auto* state = reinterpret_cast<int32_t*>(args.state) + row0 * args.state_stride + int64_t{head} * 2;
  auto* scratch = reinterpret_cast<Vector*>(args.scratch);
  Block b;
  b.args = &args;
  b.rows = least(args.rows - row0, kRows);
  b.padded = padded;
  b.blocks_of_32 = (padded + kLanes - 1) / kLanes;
  b.scores = scratch;
  b.sums = padded < kLanes ? b.few_sums : scratch + kRows * kChunkVectors;
  int32_t most_seen = 0;
  for (int32_t r = 0; r < b.rows; ++r) {
    const int32_t sees = args.position + row0 + r + 1;
    b.row[r].seen = args.causal && sees < args.key_end ? sees : args.key_end;
    most_seen = most(most_seen, b.row[r].seen);
  }
  load_queries(b, reinterpret_cast<const int32_t*>(args.q) + row0 * args.q_stride + column);
  load_sums(b, out, state);
  for (int32_t key0 = args.key_begin; key0 < most_seen; key0 += kAttentionChunk) {
    const int32_t keys = least(most_seen - key0, kAttentionChunk), blocks = kv_padded_keys(keys) / kKvKeyBlock;
    const int64_t at = side + int64_t{(key0 - args.key_begin) / kKvKeyBlock} * block_bytes;
    load_words(b, cache.k + at, cache.v + at, blocks, block_bytes);
    scores_of_chunk(b, cache.k + at, blocks, block_bytes);
    softmax(b, key0, keys);
    add_values_of_chunk(b, cache.v + at, blocks);
  }
  args.last ? finish(b, out) : store_sums(b, out, state);
}

}  // namespace

void attention_hvx(const AttentionArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.cache.bits != 8) return;
  const int32_t blocks = (args.rows + kRows - 1) / kRows;
  for (int32_t unit = begin; unit < end; ++unit) attend(args, unit / blocks, unit % blocks * kRows);
}

}  // namespace hvl

// Between the two products of attention in HVX: dots to scores, scores to weights (docs/integer_arithmetic.md, section Attention).
#pragma once

#include "kernels/attention/hexagon_dots.h"
#include "kernels/common/fixed_exp2.h"

namespace hvl::hexagon {
namespace {

constexpr int32_t kTotalFraction = 22;  // of the total of one chunk's probabilities
constexpr int32_t kLeastExponent = -128;

// One query row between chunks.
struct Row {
  int32_t seen;      // keys it sees, from 0 on
  int32_t exponent;  // of its integers
  int32_t top;
  int32_t total;
  int32_t sums;  // exponent of the sums
};

// Of the keys of a chunk, 32 a vector. What lies beyond those that are there has any value.
struct Chunk {
  Vector key_words[kChunkVectors];
  Vector key_shifts[kChunkVectors];  // a score's to the right, for a query with the exponent 0
  Vector value_words[kChunkVectors];
  Vector value_exponents[kChunkVectors];
  int32_t key_exponent;  // the largest
};

HVL_HVX Vector exponents_of(Vector words) { return Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(words, 16), 16); }

// x's lanes of keys that a row sees of `seen`, vector v of a chunk; `otherwise` in the others.
HVL_HVX Vector seen_lanes(Vector x, int32_t v, int32_t seen, Vector otherwise) {
  const int32_t n = seen - v * kLanes;
  return n >= kLanes ? x : Q6_V_vmux_QVV(Q6_Q_vsetq_R(4 * most(n, 0)), x, otherwise);
}

// The largest of the scores, lane by lane.
HVL_HVX Vector best_of(const Vector* scores, int32_t seen) {
  Vector best = splat(INT32_MIN);
  if (seen == kAttentionChunk) {
#pragma unroll
    for (int v = 0; v < kChunkVectors; ++v) best = Q6_Vw_vmax_VwVw(best, scores[v]);
    return best;
  }
  for (int v = 0; v * kLanes < seen; ++v) best = Q6_Vw_vmax_VwVw(best, seen_lanes(scores[v], v, seen, splat(INT32_MIN)));
  return best;
}

// The largest exponent of the values.
HVL_HVX int32_t value_exponent(const Chunk& chunk, int32_t seen) { return first_lane(across<Max>(best_of(chunk.value_exponents, seen))); }

// fixed::exp2_of of kVectors vectors, so that one does not wait for its own results.
template <int kVectors>
HVL_HVX void exp2_of(Vector (&x)[kVectors]) {
  Vector f[kVectors], p[kVectors];
  for (int v = 0; v < kVectors; ++v) f[v] = Q6_V_vand_VV(Q6_Vw_vasl_VwR(x[v], 16), splat(0x7fff0000));
  for (int v = 0; v < kVectors; ++v) p[v] = splat(14416650);
  constexpr int32_t kNext[] = {56093236, 259075314, 744150338, 1073741824};
  for (const int32_t c : kNext) {
    for (int v = 0; v < kVectors; ++v) p[v] = Q6_Vw_vadd_VwVw(mul15(p[v], f[v]), splat(c));
  }
  for (int v = 0; v < kVectors; ++v) x[v] = shift_right(p[v], Q6_Vw_vsub_VwVw(zero(), Q6_Vw_vasr_VwR(x[v], fixed::kFraction)));
}

struct Sums {
  Vector total, any;  // of the probabilities; the products or-ed
};

// kVectors vectors of scores from v on, in place, to products. kSome: `seen` may end within them.
template <int kVectors, bool kSome>
HVL_HVX void weigh(Vector* scores, const Chunk& chunk, int32_t v, int32_t seen, Vector reference, Vector exponent, Sums& sums) {
  Vector x[kVectors];
  for (int i = 0; i < kVectors; ++i) x[i] = Q6_Vw_vsub_VwVw_sat(scores[v + i], reference);
  exp2_of(x);
  if constexpr (kSome) {
    for (int i = 0; i < kVectors; ++i) x[i] = seen_lanes(x[i], v + i, seen, zero());
  }
  for (int i = 0; i < kVectors; ++i) {
    sums.total = Q6_Vw_vadd_VwVw(sums.total, Q6_Vw_vasr_VwR(x[i], fixed::kExp2Fraction - kTotalFraction));
    x[i] = shift_right(mul15(x[i], chunk.value_words[v + i]), Q6_Vw_vsub_VwVw(exponent, chunk.value_exponents[v + i]));
    sums.any = Q6_V_vor_VV(sums.any, x[i]);
  }
  for (int i = 0; i < kVectors; ++i) scores[v + i] = x[i];
}

// Scores, in place, to products of probabilities and the values' scales, zeros where the row does not see.
HVL_HVX Sums products_of(Vector* scores, const Chunk& chunk, int32_t seen, int32_t reference, int32_t exponent) {
  Sums sums = {zero(), zero()};
  int32_t v = 0;
  for (; (v + 4) * kLanes <= seen; v += 4) weigh<4, false>(scores, chunk, v, seen, splat(reference), splat(exponent), sums);
  for (; v * kLanes < seen; ++v) weigh<1, true>(scores, chunk, v, seen, splat(reference), splat(exponent), sums);
  for (; v < kChunkVectors; ++v) scores[v] = zero();
  return sums;
}

// Products, in place, to planes of weights; returns the sums of these.
HVL_HVX Vector weights_of(Vector* products, int32_t down) {
  const Vector half = splat((1 << down) >> 1), limit = splat(32767);
  Vector sum = zero(), hi[2], lo[2];
  for (int part = 0; part < 2; ++part) {
    Vector w[4];
    for (int v = 0; v < 4; ++v) {
      w[v] = Q6_Vw_vmin_VwVw(Q6_Vw_vasr_VwR(Q6_Vw_vadd_VwVw(products[4 * part + v], half), down), limit);
      sum = Q6_Vw_vadd_VwVw(sum, w[v]);
    }
    to_planes(w, hi[part], lo[part]);
  }
  for (int part = 0; part < 2; ++part) {
    products[part] = hi[part];
    products[kWeightLow / kVectorBytes + part] = lo[part];
  }
  return sum;
}

}  // namespace
}  // namespace hvl::hexagon

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
  for (int v = 0; v * kLanes < seen; ++v) best = Q6_Vw_vmax_VwVw(best, seen_lanes(scores[v], v, seen, splat(INT32_MIN)));
  return best;
}

// The largest exponent of the values.
HVL_HVX int32_t value_exponent(const Chunk& chunk, int32_t seen) { return first_lane(across<Max>(best_of(chunk.value_exponents, seen))); }

// fixed::exp2_of.
HVL_HVX Vector exp2_of(Vector x) {
  const Vector f = Q6_V_vand_VV(Q6_Vw_vasl_VwR(x, 16), splat(0x7fff0000));
  Vector p = splat(14416650);
  p = Q6_Vw_vadd_VwVw(mul15(p, f), splat(56093236));
  p = Q6_Vw_vadd_VwVw(mul15(p, f), splat(259075314));
  p = Q6_Vw_vadd_VwVw(mul15(p, f), splat(744150338));
  p = Q6_Vw_vadd_VwVw(mul15(p, f), splat(1073741824));
  return shift_right(p, Q6_Vw_vsub_VwVw(zero(), Q6_Vw_vasr_VwR(x, fixed::kFraction)));
}

struct Sums {
  Vector total, any;  // of the probabilities; the products or-ed
};

// Scores, in place, to products of probabilities and the values' scales, zeros where the row does not see.
HVL_HVX Sums products_of(Vector* scores, const Chunk& chunk, int32_t seen, int32_t reference, int32_t exponent) {
  const Vector against = splat(reference), largest = splat(exponent);
  Vector total = zero(), any = zero();
  const auto weigh = [&](int v, Vector p) __attribute__((always_inline)) {
    total = Q6_Vw_vadd_VwVw(total, Q6_Vw_vasr_VwR(p, fixed::kExp2Fraction - kTotalFraction));
    const Vector product = shift_right(mul15(p, chunk.value_words[v]), Q6_Vw_vsub_VwVw(largest, chunk.value_exponents[v]));
    any = Q6_V_vor_VV(any, product);
    scores[v] = product;
  };
  const auto probabilities = [&](int v) __attribute__((always_inline)) { return exp2_of(Q6_Vw_vsub_VwVw_sat(scores[v], against)); };
  if (seen == kAttentionChunk) {
#pragma unroll 4
    for (int v = 0; v < kChunkVectors; ++v) weigh(v, probabilities(v));
  } else {
    int v = 0;
    for (; v * kLanes < seen; ++v) weigh(v, seen_lanes(probabilities(v), v, seen, zero()));
    for (; v < kChunkVectors; ++v) scores[v] = zero();
  }
  return {total, any};
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

// LayerNorm and RMSNorm over the last axis.
//
// Sums run over 16 virtual lanes (element i goes to lane i mod 16, in order, with fma for products; lanes past the end add +0), merged as
// lane[i] += lane[i + 8], then 4, 2, 1. Bit-identical in every variant. Square root and division are IEEE.
//   RMSNorm:   y = (x * (1 / sqrt(sum(x^2) / n + eps))) * weight
//   LayerNorm: mean = sum(x) / n; d = x - mean; y = fma(d * (1 / sqrt(sum(d^2) / n + eps)), weight, bias)
#pragma once

#include <stdint.h>

namespace hvl {

enum class NormKind : int32_t { kRms = 0, kLayer = 1 };

struct NormArgs {
  const float* x;       // (rows, cols)
  int64_t x_stride;     // floats
  const float* weight;  // (cols)
  const float* bias;    // (cols), LayerNorm only
  float* out;           // (rows, cols), may be x
  int64_t out_stride;   // floats
  int32_t rows;
  int32_t cols;
  float eps;
  NormKind kind;
};
// Work unit: one row.

}  // namespace hvl

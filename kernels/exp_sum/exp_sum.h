// What log-softmax needs of a row of logits, chunk by chunk: the maximum m and the sum of exp(x - m).
//
// The sum runs over 16 virtual lanes in order (element i of the chunk goes to lane i mod 16), merged as in kernels/norm. exp is ours
// (kernels/common/math.h). Bit-identical in every variant. NaN gives NaN or is passed over, as the maximum does.
#pragma once

#include <stdint.h>

namespace hvl {

inline constexpr int32_t kExpSumChunk = 1024;

struct ExpSumArgs {
  const float* x;  // (n)
  int32_t n;
  float* maximum;  // (units)
  float* sum;      // (units)
};
// Work unit: one chunk.
inline int32_t exp_sum_units(int32_t n) { return (n + kExpSumChunk - 1) / kExpSumChunk; }

}  // namespace hvl

// Per-head RMSNorm (optional) and rotary position embedding, half-split rotation as in Qwen3, in place.
//   n = RMSNorm(x_head) (kernels/norm arithmetic);  for i < head_dim / 2, c = cos[p][i], s = sin[p][i]:
//   out[i]       = fma(n[i], c, -(n[i + half] * s));   out[i + half] = fma(n[i + half], c, n[i] * s)
#pragma once

#include <stdint.h>

namespace hvl {

struct RopeArgs {
  float* x;             // (rows, heads * head_dim)
  int64_t x_stride;     // floats
  const float* weight;  // (head_dim), or null: no norm
  float eps;
  const float* cos;     // (positions, head_dim / 2): row p is position p
  const float* sin;     // the same
  int32_t position;     // of row 0; row r is at position + r
  int32_t rows;
  int32_t heads;
  int32_t head_dim;     // even, at most 256
};
// Work unit: one row.

}  // namespace hvl

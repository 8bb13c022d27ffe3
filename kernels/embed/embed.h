// Rows of a packed embedding (kernels/linear layout), dequantised: out[c] = float(q - zero_point) * scale, exact in float32 for F16 scales.
#pragma once

#include <stdint.h>

#include "kernels/linear/linear.h"

namespace hvl {

struct EmbedArgs {
  LinearWeight weight;  // (vocab, hidden)
  const int32_t* ids;   // (rows), each in [0, vocab); negative: the row of `out` is left as it is (an image embedding stands there)
  float* out;           // (rows, hidden)
  int64_t out_stride;   // floats
  int32_t rows;
};
// Work unit: one row.

}  // namespace hvl

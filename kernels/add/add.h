// out = a + b, float32.
#pragma once

#include <stdint.h>

namespace hvl {

struct AddArgs {
  const float* a;  // (rows, cols) contiguous
  const float* b;  // (rows, cols) contiguous
  float* out;      // may be a or b
  int32_t rows;
  int32_t cols;
};
// Work unit: one row.

}  // namespace hvl

// Elementwise activations with our own exp, tanh and erf (kernels/common/math.h): within 2e-7 absolute + 4 ulp of the exact value.
#pragma once

#include <stdint.h>

namespace hvl {

enum class ActivationKind : int32_t { kGeluTanh = 0, kGeluErf = 1, kSilu = 2, kRelu = 3, kQuickGelu = 4 };

struct ActivationArgs {
  const float* x;  // (rows, cols) contiguous
  float* out;      // the same, may be x
  int32_t rows;
  int32_t cols;
  ActivationKind kind;
};
// Work unit: one row.

// out = silu(gate) * up
struct SiluMulArgs {
  const float* gate;  // (rows, cols) contiguous
  const float* up;    // (rows, cols) contiguous
  float* out;         // may be gate or up
  int32_t rows;
  int32_t cols;
};
// Work unit: one row.

}  // namespace hvl

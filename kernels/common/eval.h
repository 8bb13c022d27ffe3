// kernels/common/math.h as plain functions, so that tests can reach them variant by variant.
#pragma once

#include <stdint.h>

#include "kernels/variants.h"

namespace hvl {

enum class MathFunction : int32_t { kExp = 0, kSigmoid = 1, kTanh = 2, kErf = 3, kDotBytes = 4 };

// out[i] = f(x[i]) for begin <= i < end. kDotBytes: vec::dot_bytes of the bits of x with themselves.
struct MathArgs {
  const float* x;
  float* out;
  MathFunction function;
};

#define HVL_DECLARE_MATH(id, isa) void math_##isa(const MathArgs& args, int32_t begin, int32_t end) noexcept;
HVL_FULL_ISAS(HVL_DECLARE_MATH)
#undef HVL_DECLARE_MATH

}  // namespace hvl

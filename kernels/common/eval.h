// kernels/common/math.h and its half conversions as plain functions, so that tests can reach them variant by variant.
#pragma once

#include <stdint.h>

namespace hvl {

enum class MathFunction : int32_t { kExp = 0, kSigmoid = 1, kTanh = 2, kErf = 3, kToHalf = 4, kFromHalf = 5 };

// out[i] = f(x[i]) for begin <= i < end. kToHalf and kFromHalf keep halves as the integers 0 .. 65535 in floats.
struct MathArgs {
  const float* x;
  float* out;
  MathFunction function;
};

void math_reference(const MathArgs& args, int32_t begin, int32_t end) noexcept;
void math_avx2(const MathArgs& args, int32_t begin, int32_t end) noexcept;
void math_avx512vnni(const MathArgs& args, int32_t begin, int32_t end) noexcept;

}  // namespace hvl

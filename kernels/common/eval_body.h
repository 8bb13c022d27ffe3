// kernels/common/eval.h over the vec16 of the including variant.
#pragma once

#include "kernels/common/eval.h"
#include "kernels/common/math.h"

namespace hvl {
namespace {

HVL_VEC Vec16 to_half(Vec16 x) {
  uint16_t half[16];
  float value[16];
  vec::store_half(half, x);
  for (int i = 0; i < 16; ++i) value[i] = static_cast<float>(half[i]);
  return vec::load(value);
}

HVL_VEC Vec16 from_half(Vec16 x) {
  uint16_t half[16];
  float value[16];
  vec::store(value, x);
  for (int i = 0; i < 16; ++i) half[i] = static_cast<uint16_t>(value[i]);
  return vec::load_half(half);
}

HVL_VEC void math_body(const MathArgs& args, int32_t begin, int32_t end) {
  for (int32_t i = begin; i < end; i += 16) {
    const int n = end - i < 16 ? end - i : 16;
    const Vec16 x = vec::load_n(args.x + i, n);
    Vec16 y = x;
    switch (args.function) {
      case MathFunction::kExp: y = exp(x); break;
      case MathFunction::kSigmoid: y = sigmoid(x); break;
      case MathFunction::kTanh: y = tanh(x); break;
      case MathFunction::kErf: y = erf(x); break;
      case MathFunction::kToHalf: y = to_half(x); break;
      case MathFunction::kFromHalf: y = from_half(x); break;
    }
    vec::store_n(args.out + i, y, n);
  }
}

}  // namespace
}  // namespace hvl

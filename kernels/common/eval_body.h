// kernels/common/eval.h over the vec16 of the including variant.
#pragma once

#include "kernels/common/eval.h"
#include "kernels/common/math.h"

namespace hvl {
namespace {

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
      case MathFunction::kDotBytes: y = vec::to_float(vec::dot_bytes(vec::ints_zero(), vec::float_bits(x), vec::float_bits(x))); break;
    }
    vec::store_n(args.out + i, y, n);
  }
}

}  // namespace
}  // namespace hvl

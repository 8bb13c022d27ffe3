// Elementwise activations and silu(gate) * up, written once over the vec16 of the including variant.
#pragma once

#include "kernels/activation/activation.h"
#include "kernels/common/math.h"

namespace hvl {
namespace {

struct Relu {
  HVL_VEC Vec16 apply(Vec16 x) { return vec::max(vec::zero(), x); }
};

// x / (1 + exp(-x)) has one rounding fewer than x * sigmoid(x).
struct Silu {
  HVL_VEC Vec16 apply(Vec16 x) { return vec::div(x, vec::add(vec::set1(1.0f), exp(vec::sub(vec::zero(), x)))); }
};

struct QuickGelu {
  HVL_VEC Vec16 apply(Vec16 x) { return vec::div(x, vec::add(vec::set1(1.0f), exp(vec::mul(vec::set1(-1.702f), x)))); }
};

// x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), without the cancellation of 1 + tanh at negative u;
// -2u = x (-2 sqrt(2/pi)) (1 + 0.044715 x^2).
struct GeluTanh {
  HVL_VEC Vec16 apply(Vec16 x) {
    const Vec16 one = vec::set1(1.0f);
    const Vec16 cubic = vec::fma(vec::mul(x, x), vec::set1(0.044715f), one);
    const Vec16 minus_2u = vec::mul(vec::mul(x, vec::set1(-0x1.988454p0f)), cubic);
    return vec::div(x, vec::add(one, exp(minus_2u)));
  }
};

// x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - |x|/2 erfc(|x| / sqrt 2), again without cancellation.
struct GeluErf {
  HVL_VEC Vec16 apply(Vec16 x) {
    const Vec16 a = vec::min(vec::set1(15.0f), vec::abs(x));  // erfc is 0 there; keeps infinity out of the product
    const Vec16 complement = erfc_positive(vec::mul(a, vec::set1(0x1.6a09e6p-1f)));
    return vec::fma(vec::mul(a, vec::set1(-0.5f)), complement, vec::max(vec::zero(), x));
  }
};

template <class Function>
HVL_VEC void map(const float* x, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vec::store(out + i, Function::apply(vec::load(x + i)));
  if (i < n) {
    const int tail = static_cast<int>(n - i);
    vec::store_n(out + i, Function::apply(vec::load_n(x + i, tail)), tail);
  }
}

HVL_VEC void activation_body(const ActivationArgs& args, int32_t begin, int32_t end) {
  // Rows are contiguous, so a range of them is one long vector.
  const float* x = args.x + int64_t{begin} * args.cols;
  float* out = args.out + int64_t{begin} * args.cols;
  const int64_t n = int64_t{end - begin} * args.cols;
  switch (args.kind) {
    case ActivationKind::kGeluTanh: return map<GeluTanh>(x, out, n);
    case ActivationKind::kGeluErf: return map<GeluErf>(x, out, n);
    case ActivationKind::kSilu: return map<Silu>(x, out, n);
    case ActivationKind::kRelu: return map<Relu>(x, out, n);
    case ActivationKind::kQuickGelu: return map<QuickGelu>(x, out, n);
  }
}

HVL_VEC void silu_mul_body(const SiluMulArgs& args, int32_t begin, int32_t end) {
  const int64_t first = int64_t{begin} * args.cols;
  const int64_t n = int64_t{end - begin} * args.cols;
  const float* gate = args.gate + first;
  const float* up = args.up + first;
  float* out = args.out + first;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vec::store(out + i, vec::mul(Silu::apply(vec::load(gate + i)), vec::load(up + i)));
  if (i < n) {
    const int tail = static_cast<int>(n - i);
    vec::store_n(out + i, vec::mul(Silu::apply(vec::load_n(gate + i, tail)), vec::load_n(up + i, tail)), tail);
  }
}

}  // namespace
}  // namespace hvl

// LayerNorm and RMSNorm, written once over the vec16 of the including variant.
#pragma once

#include "kernels/common/rms.h"
#include "kernels/norm/norm.h"

namespace hvl {
namespace {

HVL_VEC void rms_norm_row(const NormArgs& args, const float* x, float* out) {
  const int32_t n = args.cols;
  const vec::Vec16 inverse = vec::set1(inverse_rms(x, n, args.eps));
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) vec::store(out + i, vec::mul(vec::mul(vec::load(x + i), inverse), vec::load(args.weight + i)));
  if (i < n) {
    const int tail = n - i;
    vec::store_n(out + i, vec::mul(vec::mul(vec::load_n(x + i, tail), inverse), vec::load_n(args.weight + i, tail)), tail);
  }
}

HVL_VEC void layer_norm_row(const NormArgs& args, const float* x, float* out) {
  const int32_t n = args.cols;
  const int32_t whole = n / 16 * 16;
  const int tail = n - whole;
  vec::Vec16 sum = vec::zero();
  for (int32_t i = 0; i < whole; i += 16) sum = vec::add(sum, vec::load(x + i));
  if (tail > 0) sum = vec::add(sum, vec::load_n(x + whole, tail));
  const vec::Vec16 mean = vec::set1(vec::merge_add(sum) / static_cast<float>(n));

  vec::Vec16 squares = vec::zero();
  for (int32_t i = 0; i < whole; i += 16) {
    const vec::Vec16 d = vec::sub(vec::load(x + i), mean);
    squares = vec::fma(d, d, squares);
  }
  if (tail > 0) {  // lanes past the end must not count as 0 - mean
    const vec::Vec16 d = vec::first_n(vec::sub(vec::load_n(x + whole, tail), mean), tail, vec::zero());
    squares = vec::fma(d, d, squares);
  }
  const float variance = vec::merge_add(squares) / static_cast<float>(n);
  const vec::Vec16 inverse = vec::set1(1.0f / vec::scalar_sqrt(variance + args.eps));

  for (int32_t i = 0; i < whole; i += 16) {
    const vec::Vec16 d = vec::mul(vec::sub(vec::load(x + i), mean), inverse);
    vec::store(out + i, vec::fma(d, vec::load(args.weight + i), vec::load(args.bias + i)));
  }
  if (tail > 0) {
    const vec::Vec16 d = vec::mul(vec::sub(vec::load_n(x + whole, tail), mean), inverse);
    vec::store_n(out + whole, vec::fma(d, vec::load_n(args.weight + whole, tail), vec::load_n(args.bias + whole, tail)), tail);
  }
}

HVL_VEC void norm_body(const NormArgs& args, int32_t begin, int32_t end) {
  for (int32_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    if (args.kind == NormKind::kRms) {
      rms_norm_row(args, x, out);
    } else {
      layer_norm_row(args, x, out);
    }
  }
}

}  // namespace
}  // namespace hvl

// Maximum and sum of exponentials of a chunk, written once over the vec16 of the including variant.
#pragma once

#include "kernels/common/math.h"
#include "kernels/exp_sum/exp_sum.h"

namespace hvl {
namespace {

HVL_VEC void exp_sum_body(const ExpSumArgs& args, int32_t begin, int32_t end) {
  const Vec16 minus_infinity = vec::set1(-__builtin_inff());
  for (int32_t unit = begin; unit < end; ++unit) {
    const float* x = args.x + int64_t{unit} * kExpSumChunk;
    const int32_t left = args.n - unit * kExpSumChunk, n = left < kExpSumChunk ? left : kExpSumChunk;
    const int32_t whole = n / 16 * 16;
    const int tail = n - whole;
    Vec16 most = minus_infinity;
    for (int32_t i = 0; i < whole; i += 16) most = vec::max(most, vec::load(x + i));
    if (tail > 0) most = vec::max(most, vec::first_n(vec::load_n(x + whole, tail), tail, minus_infinity));
    args.maximum[unit] = vec::merge_max(most);
    const Vec16 maximum = vec::set1(args.maximum[unit]);
    Vec16 sum = vec::zero();
    for (int32_t i = 0; i < whole; i += 16) sum = vec::add(sum, exp(vec::sub(vec::load(x + i), maximum)));
    if (tail > 0) sum = vec::add(sum, vec::first_n(exp(vec::sub(vec::load_n(x + whole, tail), maximum)), tail, vec::zero()));
    args.sum[unit] = vec::merge_add(sum);
  }
}

}  // namespace
}  // namespace hvl

// a * b + c of floats rounded once, for processors that may have no instruction for it, four at a time and without libm (whose fmaf takes
// tens of cycles there).
//
// The product of two floats is exact in double. The sum in double rounded to float is what is wanted, except where that first rounding
// ends half way between two floats, or the result is subnormal (half ways lie elsewhere) or zero (rare enough to be taken for such). There
// the sum is rounded to odd first, with the error that it made, after which rounding to float cannot go wrong (Boldo and Melquiond, 2008).
#pragma once

#include <stdint.h>

namespace hvl {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef double Double2 __attribute__((vector_size(16)));
typedef int64_t Long2 __attribute__((vector_size(16)));
typedef float Float2 __attribute__((vector_size(8)));

__attribute__((always_inline)) static inline Double2 low_doubles(Float4 x) {
  return __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1), Double2);
}
__attribute__((always_inline)) static inline Double2 high_doubles(Float4 x) {
  return __builtin_convertvector(__builtin_shufflevector(x, x, 2, 3), Double2);
}
__attribute__((always_inline)) static inline Float4 to_floats(Double2 low, Double2 high) {
  return __builtin_shufflevector(__builtin_convertvector(low, Float2), __builtin_convertvector(high, Float2), 0, 1, 2, 3);
}

// p + c rounded to odd.
__attribute__((always_inline)) static inline Double2 add_to_odd(Double2 p, Double2 c) {
  const Double2 sum = p + c, part = sum - p;
  const Double2 error = (p - (sum - part)) + (c - part);
  const Long2 inexact = (error > 0) | (error < 0);  // not where it is NaN: sums that are not finite stay
  const Long2 bits = (Long2)sum, beyond = (bits ^ (Long2)error) < 0;
  return (Double2)((bits + (beyond & inexact)) | (inexact & 1));  // towards zero, then odd
}

__attribute__((noinline, cold)) static Float4 fma_with_care(Float4 a, Float4 b, Float4 c) {
  const Double2 low = add_to_odd(low_doubles(a) * low_doubles(b), low_doubles(c));
  const Double2 high = add_to_odd(high_doubles(a) * high_doubles(b), high_doubles(c));
  return to_floats(low, high);
}

__attribute__((always_inline)) static inline Float4 fma4(Float4 a, Float4 b, Float4 c) {
#ifdef __FP_FAST_FMAF
  Float4 out;
  for (int i = 0; i < 4; ++i) out[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return out;
#else
  const Double2 low = low_doubles(a) * low_doubles(b) + low_doubles(c), high = high_doubles(a) * high_doubles(b) + high_doubles(c);
  const Float4 sum = to_floats(low, high);
  // The 29 bits of a double that a float lacks are 1000.. half way: the lower words of both, and whether a float is below the normal ones.
  const Int4 words = __builtin_shufflevector((Int4)low, (Int4)high, 0, 2, 4, 6);
  const Int4 half_way = (words & 0x1fffffff) == 0x10000000;
  const Int4 small = ((Int4)sum & 0x7fffffff) <= 0x00800000;
  const Long2 doubtful = (Long2)(half_way | small);
  if (__builtin_expect((doubtful[0] | doubtful[1]) != 0, 0)) return fma_with_care(a, b, c);
  return sum;
#endif
}

}  // namespace
}  // namespace hvl

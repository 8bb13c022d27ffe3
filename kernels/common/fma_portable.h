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

struct Float16 {
  Float4 a, b, c, d;
};

#ifdef __FP_FAST_FMAF
__attribute__((always_inline)) static inline Float4 fma4(Float4 a, Float4 b, Float4 c) {
  for (int i = 0; i < 4; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}

__attribute__((always_inline)) static inline Float16 fma16(Float16 x, Float16 y, Float16 z) {
  return {fma4(x.a, y.a, z.a), fma4(x.b, y.b, z.b), fma4(x.c, y.c, z.c), fma4(x.d, y.d, z.d)};
}
#else
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

// Sets bits of `doubtful` where the sum may be wrong.
__attribute__((always_inline)) static inline Float4 fma_or_doubt(Float4 a, Float4 b, Float4 c, Int4& doubtful) {
  const Double2 low = low_doubles(a) * low_doubles(b) + low_doubles(c), high = high_doubles(a) * high_doubles(b) + high_doubles(c);
  const Float4 sum = to_floats(low, high);
  // The 29 bits of a double that a float lacks are 1000.. half way: the lower words of both, and whether a float is below the normal ones.
  const Int4 words = __builtin_shufflevector((Int4)low, (Int4)high, 0, 2, 4, 6);
  const Int4 half_way = (words << 3) == INT32_MIN, small = ((Int4)sum & 0x7fffffff) <= 0x00800000;
  doubtful |= half_way | small;
  return sum;
}

__attribute__((always_inline)) static inline Float16 fma16(Float16 x, Float16 y, Float16 z) {
  Int4 doubtful = {};
  const Float16 sum = {fma_or_doubt(x.a, y.a, z.a, doubtful), fma_or_doubt(x.b, y.b, z.b, doubtful), fma_or_doubt(x.c, y.c, z.c, doubtful),
                       fma_or_doubt(x.d, y.d, z.d, doubtful)};
  const Long2 any = (Long2)doubtful;
  if (__builtin_expect((any[0] | any[1]) == 0, 1)) return sum;
  return {fma_with_care(x.a, y.a, z.a), fma_with_care(x.b, y.b, z.b), fma_with_care(x.c, y.c, z.c), fma_with_care(x.d, y.d, z.d)};
}
#endif

}  // namespace
}  // namespace hvl

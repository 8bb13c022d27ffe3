// The operations that the integer arithmetic (docs/integer_arithmetic.md) is made of, in plain C++: what kernels/*/fixed.cc are written with.
//
// Activations are int32 with kFraction fraction bits. Every operation is total, and one to four instructions on HVX (named beside it). Shifts
// of negative numbers round down.
#pragma once

#include <stdint.h>

namespace hvl::fixed {
namespace {

constexpr int32_t kFraction = 15;  // so that an activation reaches as far as float16 does: +-65536
constexpr int32_t kMost = INT32_MAX;

inline int32_t saturate(int64_t x) { return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : int32_t(x); }
inline int32_t add(int32_t a, int32_t b) { return saturate(int64_t{a} + b); }  // vadd:sat
inline int32_t sub(int32_t a, int32_t b) { return saturate(int64_t{a} - b); }  // vsub:sat

// m in 0 .. 65535: vmpye(w, uh)
inline int32_t mul16(int32_t a, int32_t m) { return int32_t((int64_t{a} * m) >> 16); }
// h an int16: vmpyo(w, h):<<1:rnd:sat
inline int32_t mul15(int32_t a, int32_t h) { return saturate((int64_t{a} * h + (1 << 14)) >> 15); }
// vmpye(w, uh), then += vmpyo(w, h):<<1:rnd:sat:shift
inline int32_t mul31(int32_t a, int32_t b) { return saturate((int64_t{a} * b + (int64_t{1} << 30)) >> 31); }

// a * 2^-n, rounded down; n above 31 counts as 31; n below 0 shifts to the left and saturates, below -31 counts as -31. vasr(w, w) where n
// is known not to be negative.
inline int32_t shift_down(int32_t a, int32_t n) {
  if (n >= 0) return a >> (n > 31 ? 31 : n);
  return saturate(int64_t{a} << (n < -31 ? 31 : -n));
}
// The same rounded to nearest, halves up: (a >> n) + (a >> (n - 1) & 1).
inline int32_t round_down(int32_t a, int32_t n) {
  if (n <= 0) return shift_down(a, n);
  const int32_t s = n > 31 ? 31 : n;
  return int32_t((int64_t{a} + (int64_t{1} << (s - 1))) >> s);
}

// x, or for a negative x -1 - x, which is never out of range: the largest of a row has as many bits as the row's magnitudes or-ed together.
inline int32_t magnitude(int32_t x) { return x ^ (x >> 31); }
inline int32_t width(int32_t m) { return m == 0 ? 0 : 32 - __builtin_clz(uint32_t(m)); }  // bits of m >= 0
inline int32_t clamp(int32_t x, int32_t limit) { return x > limit ? limit : x < -limit ? -limit : x; }
inline int32_t any_magnitude(const int32_t* x, int32_t n) {
  int32_t m = 0;
  for (int32_t i = 0; i < n; ++i) m |= magnitude(x[i]);
  return m;
}

// A number as mantissa * 2^exponent in one word: the int16 mantissa, 0 or with a magnitude from 2^14 on, in the odd half, where vmpyo looks for
// it; the exponent in the even half.
inline int32_t scaled(int32_t mantissa, int32_t exponent) { return int32_t(uint32_t(mantissa) << 16 | (uint32_t(exponent) & 0xffff)); }
constexpr int32_t kNoScale = -64;  // exponent beside the mantissa 0 of a row of zeros: below any other row's
inline int32_t scaled_mantissa(int32_t word) { return word >> 16; }
inline int32_t scaled_exponent(int32_t word) { return int16_t(word & 0xffff); }

// The scale of a (weight row, group), a float of 16 or 32 bits that is not negative, as mantissa * 2^exponent with the mantissa in 0 .. 65535.
struct WeightScale {
  int32_t mantissa, exponent;
};
inline WeightScale weight_scale_f16(uint32_t half) {
  const int32_t field = int32_t(half >> 10 & 31), fraction = int32_t(half & 1023);
  return {(field ? 1024 + fraction : fraction) << 5, (field ? field : 1) - 30};
}
inline WeightScale weight_scale_f32(uint32_t bits) {  // rounded to 16 bits, halves up
  const int32_t field = int32_t(bits >> 23 & 255), fraction = int32_t(bits & 0x7fffff);
  const int32_t mantissa = ((field ? (1 << 23) + fraction : fraction) + 128) >> 8, exponent = (field ? field : 1) - 142;
  return mantissa == 65536 ? WeightScale{32768, exponent + 1} : WeightScale{mantissa, exponent};
}

// A float of an op's operands (eps, the scale of attention), not negative and finite: mantissa * 2^exponent, exactly.
struct Scalar {
  int64_t mantissa;
  int32_t exponent;
};
inline Scalar scalar(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const int32_t field = int32_t(bits >> 23 & 255), fraction = int32_t(bits & 0x7fffff);
  return {field ? (1 << 23) + fraction : fraction, (field ? field : 1) - 150};
}

// floor(sqrt(x)), once a row.
inline uint32_t root(uint64_t x) {
  uint64_t r = 0;
  for (uint64_t bit = uint64_t{1} << 31; bit != 0; bit >>= 1) {
    if ((r | bit) * (r | bit) <= x) r |= bit;
  }
  return uint32_t(r);
}

}  // namespace
}  // namespace hvl::fixed

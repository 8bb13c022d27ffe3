// Sixteen lanes in four vectors of 128 bits of the compiler's own, which every target has: what attention needs of vec16_reference.h, where
// the meanings are. fma is exact without an instruction for it.
#pragma once

#include <stdint.h>

#include "kernels/common/fma_portable.h"

#define HVL_VEC static inline __attribute__((always_inline))

namespace hvl::vec16_portable {

typedef int16_t Short8 __attribute__((vector_size(16)));

using Vec16 = Float16;  // lanes 0..3, 4..7, 8..11, 12..15
struct Ints {
  Int4 a, b, c, d;
};

#define HVL_UNROLL _Pragma("GCC unroll 32")
inline constexpr int kRows = 2;  // of a register block: dots.py's
inline constexpr int kWide = 1;
inline constexpr int kWideFewRows = 1;
inline constexpr bool kByteDots = false;

HVL_VEC Vec16 set1(float x) {
  const Float4 v = {x, x, x, x};
  return {v, v, v, v};
}
HVL_VEC Vec16 zero() { return set1(0.0f); }

HVL_VEC Vec16 load(const float* p) {
  Vec16 x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
HVL_VEC void store(float* p, Vec16 x) { __builtin_memcpy(p, &x, sizeof(x)); }

HVL_VEC Vec16 load_n(const float* p, int n) {
  float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
HVL_VEC void store_n(float* p, Vec16 x, int n) {
  float lanes[16];
  store(lanes, x);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

HVL_VEC Vec16 add(Vec16 x, Vec16 y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
HVL_VEC Vec16 sub(Vec16 x, Vec16 y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
HVL_VEC Vec16 mul(Vec16 x, Vec16 y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
HVL_VEC Vec16 div(Vec16 x, Vec16 y) { return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d}; }
HVL_VEC Vec16 fma(Vec16 x, Vec16 y, Vec16 z) { return fma16(x, y, z); }

HVL_VEC Float4 max(Float4 x, Float4 y) { return x > y ? x : y; }
HVL_VEC Float4 min(Float4 x, Float4 y) { return x < y ? x : y; }
HVL_VEC Vec16 max(Vec16 x, Vec16 y) { return {max(x.a, y.a), max(x.b, y.b), max(x.c, y.c), max(x.d, y.d)}; }
HVL_VEC Vec16 min(Vec16 x, Vec16 y) { return {min(x.a, y.a), min(x.b, y.b), min(x.c, y.c), min(x.d, y.d)}; }

HVL_VEC Float4 abs(Float4 x) { return (Float4)((Int4)x & 0x7fffffff); }
HVL_VEC Vec16 abs(Vec16 x) { return {abs(x.a), abs(x.b), abs(x.c), abs(x.d)}; }

HVL_VEC Float4 copysign(Float4 x, Float4 sign) { return (Float4)((Int4)abs(x) | ((Int4)sign & INT32_MIN)); }
HVL_VEC Vec16 copysign(Vec16 x, Vec16 s) { return {copysign(x.a, s.a), copysign(x.b, s.b), copysign(x.c, s.c), copysign(x.d, s.d)}; }

HVL_VEC Vec16 first_n(Vec16 x, int n, Vec16 fill) {
  float lanes[16], others[16];
  store(lanes, x);
  store(others, fill);
  for (int i = n; i < 16; ++i) lanes[i] = others[i];
  return load(lanes);
}

HVL_VEC Float4 scale_exp2(Float4 p, Float4 n) {
  const Int4 k = __builtin_convertvector(n, Int4), half = k >> 1;
  return p * (Float4)((half + 127) << 23) * (Float4)((k - half + 127) << 23);
}
HVL_VEC Vec16 scale_exp2(Vec16 p, Vec16 n) {
  return {scale_exp2(p.a, n.a), scale_exp2(p.b, n.b), scale_exp2(p.c, n.c), scale_exp2(p.d, n.d)};
}

HVL_VEC float merge_add(Vec16 x) {
  const Float4 four = (x.a + x.c) + (x.b + x.d);
  return (four[0] + four[2]) + (four[1] + four[3]);
}
HVL_VEC float merge_max(Vec16 x) {
  const Float4 four = max(max(x.a, x.c), max(x.b, x.d));
  const float even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

HVL_VEC Ints ints_zero() { return {Int4{}, Int4{}, Int4{}, Int4{}}; }
HVL_VEC Ints ints_load(const void* p) {
  Ints x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
HVL_VEC Int4 ints_max(Int4 x, Int4 y) { return x > y ? x : y; }
HVL_VEC Ints ints_max(Ints x, Ints y) { return {ints_max(x.a, y.a), ints_max(x.b, y.b), ints_max(x.c, y.c), ints_max(x.d, y.d)}; }
HVL_VEC int32_t ints_merge_max(Ints x) {
  const Int4 four = ints_max(ints_max(x.a, x.b), ints_max(x.c, x.d));
  const int32_t even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

HVL_VEC Ints float_bits(Vec16 x) { return {(Int4)x.a, (Int4)x.b, (Int4)x.c, (Int4)x.d}; }
HVL_VEC Float4 to_float(Int4 x) { return __builtin_convertvector(x, Float4); }
HVL_VEC Vec16 to_float(Ints x) { return {to_float(x.a), to_float(x.b), to_float(x.c), to_float(x.d)}; }
HVL_VEC Int4 round_to_ints(Float4 x) { return __builtin_convertvector((x + 0x1.8p23f) - 0x1.8p23f, Int4); }
HVL_VEC Ints round_to_ints(Vec16 x) { return {round_to_ints(x.a), round_to_ints(x.b), round_to_ints(x.c), round_to_ints(x.d)}; }

HVL_VEC void store_bytes(void* p, Ints x) {
  int32_t lanes[16];
  __builtin_memcpy(lanes, &x, sizeof(lanes));
  for (int i = 0; i < 16; ++i) static_cast<uint8_t*>(p)[i] = static_cast<uint8_t>(lanes[i]);
}
HVL_VEC void store_words(void* p, Ints x) {
  const Short8 words[2] = {__builtin_shufflevector((Short8)x.a, (Short8)x.b, 0, 2, 4, 6, 8, 10, 12, 14),
                           __builtin_shufflevector((Short8)x.c, (Short8)x.d, 0, 2, 4, 6, 8, 10, 12, 14)};
  __builtin_memcpy(p, words, sizeof(words));
}
HVL_VEC void store_words_0213(void* p, Ints x) {
  const Short8 words[2] = {__builtin_shufflevector((Short8)x.a, (Short8)x.b, 0, 4, 2, 6, 8, 12, 10, 14),
                           __builtin_shufflevector((Short8)x.c, (Short8)x.d, 0, 4, 2, 6, 8, 12, 10, 14)};
  __builtin_memcpy(p, words, sizeof(words));
}

}  // namespace hvl::vec16_portable

namespace hvl {
namespace vec = vec16_portable;
}

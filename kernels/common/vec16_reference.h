// Sixteen float lanes as a plain array: the portable meaning of the vector that kernel bodies are written against.
//
// A variant's .cc includes exactly one of vec16_reference.h, vec16_avx2.h and vec16_avx512.h, then a kernel body, which sees it as `vec`.
// Every function here does the same to the bit in the other two (NaN payloads apart). All is static and always inlined, so that
// objects compiled for an instruction set hold no weak symbol that could replace a baseline one.
#pragma once

#include <stdint.h>

#define HVL_VEC static inline __attribute__((always_inline))

namespace hvl::vec16_reference {

struct Vec16 {
  float lane[16];
};

// Register blocking of matrix loops: kRows rows by kWide vectors, kWideFewRows vectors when only one or two rows are left. Loops over
// such a block are marked HVL_UNROLL, because arrays of vectors stay in registers only when every index is a constant.
#define HVL_UNROLL
inline constexpr int kRows = 1;
inline constexpr int kWide = 1;
inline constexpr int kWideFewRows = 1;

HVL_VEC Vec16 set1(float x) {
  Vec16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = x;
  return r;
}

HVL_VEC Vec16 zero() { return set1(0.0f); }

HVL_VEC Vec16 load(const float* p) {
  Vec16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = p[i];
  return r;
}

// The first n (0..16) lanes from memory, the others +0; no lane past n is read.
HVL_VEC Vec16 load_n(const float* p, int n) {
  Vec16 r = zero();
  for (int i = 0; i < n; ++i) r.lane[i] = p[i];
  return r;
}

HVL_VEC void store(float* p, Vec16 x) {
  for (int i = 0; i < 16; ++i) p[i] = x.lane[i];
}

HVL_VEC void store_n(float* p, Vec16 x, int n) {
  for (int i = 0; i < n; ++i) p[i] = x.lane[i];
}

HVL_VEC Vec16 add(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] += b.lane[i];
  return a;
}

HVL_VEC Vec16 sub(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] -= b.lane[i];
  return a;
}

HVL_VEC Vec16 mul(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] *= b.lane[i];
  return a;
}

HVL_VEC Vec16 div(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] /= b.lane[i];
  return a;
}

// a * b + c, rounded once.
HVL_VEC Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
  for (int i = 0; i < 16; ++i) a.lane[i] = __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]);
  return a;
}

// a * b - c, rounded once.
HVL_VEC Vec16 fms(Vec16 a, Vec16 b, Vec16 c) {
  for (int i = 0; i < 16; ++i) a.lane[i] = __builtin_fmaf(a.lane[i], b.lane[i], -c.lane[i]);
  return a;
}

// As x86's maxps: b where the two are equal or either is NaN. The same for min.
HVL_VEC Vec16 max(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  return a;
}

HVL_VEC Vec16 min(Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
  return a;
}

HVL_VEC Vec16 abs(Vec16 a) {
  for (int i = 0; i < 16; ++i) a.lane[i] = __builtin_fabsf(a.lane[i]);
  return a;
}

HVL_VEC Vec16 copysign(Vec16 magnitude, Vec16 sign) {
  for (int i = 0; i < 16; ++i) magnitude.lane[i] = __builtin_copysignf(magnitude.lane[i], sign.lane[i]);
  return magnitude;
}

// The first n (0..16) lanes of a, the others from fill.
HVL_VEC Vec16 first_n(Vec16 a, int n, Vec16 fill) {
  for (int i = n; i < 16; ++i) a.lane[i] = fill.lane[i];
  return a;
}

// Lanes of a and b in turn: a0 b0 a1 b1 .. from the first half of both, and from the second.
HVL_VEC Vec16 zip_low(Vec16 a, Vec16 b) {
  Vec16 out;
  for (int i = 0; i < 8; ++i) {
    out.lane[2 * i] = a.lane[i];
    out.lane[2 * i + 1] = b.lane[i];
  }
  return out;
}
HVL_VEC Vec16 zip_high(Vec16 a, Vec16 b) {
  Vec16 out;
  for (int i = 0; i < 8; ++i) {
    out.lane[2 * i] = a.lane[8 + i];
    out.lane[2 * i + 1] = b.lane[8 + i];
  }
  return out;
}

// p * 2^n for integral n in [-252, 252], rounded once (the result may be denormal) while p is in [0.5, 2] and n >= -180.
HVL_VEC Vec16 scale_exp2(Vec16 p, Vec16 n) {
  for (int i = 0; i < 16; ++i) {
    // Two factors, because 2^n alone may be out of range. The first product is exact, the second one rounds. NaN takes any factor.
    const float v = n.lane[i];
    const int32_t k = v == v ? static_cast<int32_t>(v) : 0;
    const int32_t half = k >> 1;
    const uint32_t bits[2] = {static_cast<uint32_t>(half + 127) << 23, static_cast<uint32_t>(k - half + 127) << 23};
    float factor[2];
    __builtin_memcpy(factor, bits, sizeof(factor));
    p.lane[i] = p.lane[i] * factor[0] * factor[1];
  }
  return p;
}

// Sum over the lanes in the order of the contracts: lane[i] += lane[i + 8], then 4, 2, 1.
HVL_VEC float merge_add(Vec16 a) {
  for (int width = 8; width > 0; width >>= 1) {
    for (int i = 0; i < width; ++i) a.lane[i] += a.lane[i + width];
  }
  return a.lane[0];
}

HVL_VEC float merge_max(Vec16 a) {
  for (int width = 8; width > 0; width >>= 1) {
    for (int i = 0; i < width; ++i) a.lane[i] = a.lane[i] > a.lane[i + width] ? a.lane[i] : a.lane[i + width];
  }
  return a.lane[0];
}

HVL_VEC float scalar_sqrt(float x) { return __builtin_sqrtf(x); }

HVL_VEC float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t fraction = half & 0x3ffu;
  uint32_t bits;
  if (exponent == 31) {  // infinity, or NaN made quiet
    bits = sign | 0x7f800000u | (fraction << 13) | (fraction != 0 ? 0x400000u : 0u);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else {  // zero or denormal: fraction * 2^-24 is exact
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    __builtin_memcpy(&bits, &magnitude, sizeof(bits));
    bits |= sign;
  }
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds to nearest even; too large becomes infinity.
HVL_VEC uint16_t float_to_half(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
  if (bits < 0x38800000u) {                                               // below 2^-14: a denormal half
    // Adding 0.5 puts the last kept bit (2^-24) at float's last place, so that the addition does the rounding.
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, sizeof(magnitude));
    magnitude += 0.5f;
    __builtin_memcpy(&bits, &magnitude, sizeof(bits));
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  const uint32_t rounded = bits + 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

HVL_VEC Vec16 load_half(const uint16_t* p) {
  Vec16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = half_to_float(p[i]);
  return r;
}

HVL_VEC Vec16 load_half_n(const uint16_t* p, int n) {
  Vec16 r = zero();
  for (int i = 0; i < n; ++i) r.lane[i] = half_to_float(p[i]);
  return r;
}

HVL_VEC void store_half(uint16_t* p, Vec16 x) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(x.lane[i]);
}

HVL_VEC void store_half_n(uint16_t* p, Vec16 x, int n) {
  for (int i = 0; i < n; ++i) p[i] = float_to_half(x.lane[i]);
}

}  // namespace hvl::vec16_reference

namespace hvl {
namespace vec = vec16_reference;
}

// IEEE half to float and back in plain C++, for code compiled without F16C. Static: no weak symbols from ISA-flagged objects.
#pragma once

#include <stdint.h>

namespace hvl {

static inline float f32_from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t bits_from_f32(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Exact: every F16 value, subnormals too, is a float32 value.
static inline float f32_from_f16(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude < 0x0400) {
    const float subnormal = float(magnitude) * 0x1p-24f;
    return sign ? -subnormal : subnormal;
  }
  const uint32_t rebias = magnitude < 0x7c00 ? (127 - 15) << 23 : (255 - 31) << 23;  // infinities and NaN keep the top exponent
  return f32_from_bits(sign | ((magnitude << 13) + rebias));
}

// Writes the F16 equal to `value` and returns true; returns false (and writes 0) when there is none. Infinities and NaN have none.
static inline bool f16_from_f32_exact(float value, uint16_t* half) {
  const uint32_t bits = bits_from_f32(value);
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  const int32_t exponent = int32_t(bits >> 23 & 0xff) - 127;
  *half = 0;
  if (exponent >= -14 && exponent <= 15) {
    if (bits & 0x1fff) return false;
    *half = uint16_t(sign | uint32_t(exponent + 15) << 10 | (bits >> 13 & 0x3ff));
    return true;
  }
  if (exponent > 15) return false;
  const float scaled = (sign ? -value : value) * 0x1p24f;  // F16 subnormals are the multiples of 2^-24 below 2^-14
  const uint32_t whole = uint32_t(scaled);
  if (float(whole) != scaled) return false;
  *half = uint16_t(sign | whole);
  return true;
}

}  // namespace hvl

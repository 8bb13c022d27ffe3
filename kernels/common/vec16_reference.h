// Sixteen float or int32 lanes as a plain array: the portable meaning of the vectors that kernel bodies are written against.
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

// Sixteen int32 lanes, or any 64 bytes: lane i is bytes 4i .. 4i + 3, the lowest first.
struct Ints {
  int32_t lane[16];
};

// Whether dot_bytes is one instruction. Else kernels spread bytes to words once and multiply those.
inline constexpr bool kByteDots = true;

HVL_VEC Ints ints_set1(int32_t x) {
  Ints r;
  for (int i = 0; i < 16; ++i) r.lane[i] = x;
  return r;
}

HVL_VEC Ints ints_zero() { return ints_set1(0); }

// Memory at any address.
HVL_VEC Ints ints_load(const void* p) {
  Ints r;
  __builtin_memcpy(r.lane, p, sizeof(r.lane));
  return r;
}

HVL_VEC void ints_store(void* p, Ints x) { __builtin_memcpy(p, x.lane, sizeof(x.lane)); }

// The four bytes at p in every lane.
HVL_VEC Ints ints_broadcast(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return ints_set1(x);
}

HVL_VEC Ints ints_and(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) a.lane[i] &= b.lane[i];
  return a;
}

HVL_VEC Ints ints_or(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) a.lane[i] |= b.lane[i];
  return a;
}

HVL_VEC Ints ints_xor(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) a.lane[i] ^= b.lane[i];
  return a;
}

HVL_VEC Ints ints_max(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
  return a;
}

HVL_VEC int32_t ints_merge_max(Ints a) {
  for (int i = 1; i < 16; ++i) a.lane[0] = a.lane[0] > a.lane[i] ? a.lane[0] : a.lane[i];
  return a.lane[0];
}

// The same bits as integers: of floats without a sign they order as the floats do, with infinity and then NaN on top.
HVL_VEC Ints float_bits(Vec16 x) {
  Ints r;
  __builtin_memcpy(r.lane, x.lane, sizeof(r.lane));
  return r;
}

// To nearest even.
HVL_VEC Vec16 to_float(Ints x) {
  Vec16 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = static_cast<float>(x.lane[i]);
  return r;
}

// To nearest even, for |x| < 2^22; anything for NaN.
HVL_VEC Ints round_to_ints(Vec16 x) {
  Ints r;
  for (int i = 0; i < 16; ++i) r.lane[i] = x.lane[i] == x.lane[i] ? static_cast<int32_t>((x.lane[i] + 0x1.8p23f) - 0x1.8p23f) : 0;
  return r;
}

// The low byte (word) of every lane, one behind the other.
HVL_VEC void store_bytes(void* p, Ints x) {
  for (int i = 0; i < 16; ++i) static_cast<uint8_t*>(p)[i] = static_cast<uint8_t>(x.lane[i]);
}

HVL_VEC void store_words(void* p, Ints x) {
  int16_t words[16];
  for (int i = 0; i < 16; ++i) words[i] = static_cast<int16_t>(x.lane[i]);
  __builtin_memcpy(p, words, sizeof(words));
}

// The same with every four words in the order 0 2 1 3: as even_bytes and odd_bytes take four bytes apart.
HVL_VEC void store_words_0213(void* p, Ints x) {
  constexpr int kOrder[4] = {0, 2, 1, 3};
  int16_t words[16];
  for (int i = 0; i < 16; ++i) words[i] = static_cast<int16_t>(x.lane[i / 4 * 4 + kOrder[i % 4]]);
  __builtin_memcpy(p, words, sizeof(words));
}

// Lanes of the low bytes of a, b, c, d, and of the low words of a, b.
HVL_VEC Ints join_bytes(Ints a, Ints b, Ints c, Ints d) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t joined = (static_cast<uint32_t>(a.lane[i]) & 255u) | (static_cast<uint32_t>(b.lane[i]) & 255u) << 8 |
                            (static_cast<uint32_t>(c.lane[i]) & 255u) << 16 | static_cast<uint32_t>(d.lane[i]) << 24;
    a.lane[i] = static_cast<int32_t>(joined);
  }
  return a;
}

HVL_VEC Ints join_words(Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) {
    a.lane[i] = static_cast<int32_t>((static_cast<uint32_t>(a.lane[i]) & 0xffffu) | static_cast<uint32_t>(b.lane[i]) << 16);
  }
  return a;
}

// Bytes 0 and 2 (1 and 3) of every lane as two signed words.
HVL_VEC Ints even_bytes(Ints a) {
  Ints low, high;
  for (int i = 0; i < 16; ++i) {
    low.lane[i] = static_cast<int8_t>(a.lane[i]);
    high.lane[i] = static_cast<int8_t>(a.lane[i] >> 16);
  }
  return join_words(low, high);
}

HVL_VEC Ints odd_bytes(Ints a) {
  for (int i = 0; i < 16; ++i) a.lane[i] = a.lane[i] >> 8 & 0x00ffffff;
  return even_bytes(a);
}

// sum + the dot of two signed words in every lane; the result must fit.
HVL_VEC Ints dot_words(Ints sum, Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) {
    sum.lane[i] += static_cast<int16_t>(a.lane[i]) * static_cast<int16_t>(b.lane[i]) + (a.lane[i] >> 16) * (b.lane[i] >> 16);
  }
  return sum;
}

// sum + the dot of four unsigned bytes of a with four signed bytes of b in every lane; the result must fit.
HVL_VEC Ints dot_bytes(Ints sum, Ints a, Ints b) {
  for (int i = 0; i < 16; ++i) {
    for (int shift = 0; shift < 32; shift += 8) sum.lane[i] += (a.lane[i] >> shift & 255) * static_cast<int8_t>(b.lane[i] >> shift);
  }
  return sum;
}

}  // namespace hvl::vec16_reference

namespace hvl {
namespace vec = vec16_reference;
}

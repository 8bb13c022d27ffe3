// Sixteen float or int32 lanes in four NEON registers (with dotprod; with i8mm where the compiler is told so). What each function means:
// vec16_reference.h.
#pragma once

#include <arm_neon.h>
#include <stdint.h>

#define HVL_VEC static inline __attribute__((always_inline))

namespace hvl::vec16_neon {

struct Vec16 {
  float32x4_t q0, q1, q2, q3;  // lanes 0..3, 4..7, 8..11, 12..15
};

#define HVL_UNROLL _Pragma("GCC unroll 32")
inline constexpr int kRows = 4;
inline constexpr int kWide = 1;  // four rows of one vector: sixteen accumulators of 32 registers, and vectors take four each
inline constexpr int kWideFewRows = 2;

// One instruction on all four registers.
#define HVL_EACH1(f, a) {f(a.q0), f(a.q1), f(a.q2), f(a.q3)}
#define HVL_EACH2(f, a, b) {f(a.q0, b.q0), f(a.q1, b.q1), f(a.q2, b.q2), f(a.q3, b.q3)}
#define HVL_EACH3(f, a, b, c) {f(a.q0, b.q0, c.q0), f(a.q1, b.q1, c.q1), f(a.q2, b.q2, c.q2), f(a.q3, b.q3, c.q3)}

HVL_VEC Vec16 set1(float x) {
  const float32x4_t q = vdupq_n_f32(x);
  return {q, q, q, q};
}
HVL_VEC Vec16 zero() { return set1(0.0f); }
HVL_VEC Vec16 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }

HVL_VEC void store(float* p, Vec16 x) {
  vst1q_f32(p, x.q0);
  vst1q_f32(p + 4, x.q1);
  vst1q_f32(p + 8, x.q2);
  vst1q_f32(p + 12, x.q3);
}

// The first n lanes of four, any n.
HVL_VEC float32x4_t load_n4(const float* p, int n) {
  if (n >= 4) return vld1q_f32(p);
  float32x4_t q = vdupq_n_f32(0.0f);
  if (n >= 1) q = vld1q_lane_f32(p, q, 0);
  if (n >= 2) q = vld1q_lane_f32(p + 1, q, 1);
  if (n >= 3) q = vld1q_lane_f32(p + 2, q, 2);
  return q;
}

HVL_VEC void store_n4(float* p, float32x4_t q, int n) {
  if (n >= 4) return vst1q_f32(p, q);
  if (n >= 1) vst1q_lane_f32(p, q, 0);
  if (n >= 2) vst1q_lane_f32(p + 1, q, 1);
  if (n >= 3) vst1q_lane_f32(p + 2, q, 2);
}

HVL_VEC Vec16 load_n(const float* p, int n) {
  return {load_n4(p, n), load_n4(p + 4, n - 4), load_n4(p + 8, n - 8), load_n4(p + 12, n - 12)};
}

HVL_VEC void store_n(float* p, Vec16 x, int n) {
  store_n4(p, x.q0, n);
  store_n4(p + 4, x.q1, n - 4);
  store_n4(p + 8, x.q2, n - 8);
  store_n4(p + 12, x.q3, n - 12);
}

HVL_VEC Vec16 add(Vec16 a, Vec16 b) { return HVL_EACH2(vaddq_f32, a, b); }
HVL_VEC Vec16 sub(Vec16 a, Vec16 b) { return HVL_EACH2(vsubq_f32, a, b); }
HVL_VEC Vec16 mul(Vec16 a, Vec16 b) { return HVL_EACH2(vmulq_f32, a, b); }
HVL_VEC Vec16 div(Vec16 a, Vec16 b) { return HVL_EACH2(vdivq_f32, a, b); }
HVL_VEC Vec16 abs(Vec16 a) { return HVL_EACH1(vabsq_f32, a); }

HVL_VEC Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return HVL_EACH3(vfmaq_f32, c, a, b); }
HVL_VEC Vec16 fms(Vec16 a, Vec16 b, Vec16 c) {
  const Vec16 minus = HVL_EACH1(vnegq_f32, c);
  return fma(a, b, minus);
}

// fmax would return the number where one side is NaN, and order zeros by their signs.
HVL_VEC float32x4_t max4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
HVL_VEC float32x4_t min4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
HVL_VEC Vec16 max(Vec16 a, Vec16 b) { return HVL_EACH2(max4, a, b); }
HVL_VEC Vec16 min(Vec16 a, Vec16 b) { return HVL_EACH2(min4, a, b); }

HVL_VEC float32x4_t copysign4(float32x4_t magnitude, float32x4_t sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
HVL_VEC Vec16 copysign(Vec16 magnitude, Vec16 sign) { return HVL_EACH2(copysign4, magnitude, sign); }

HVL_VEC float32x4_t first_n4(float32x4_t a, int n, float32x4_t fill) {
  constexpr int32_t kLane[4] = {0, 1, 2, 3};
  return vbslq_f32(vcgtq_s32(vdupq_n_s32(n), vld1q_s32(kLane)), a, fill);
}
HVL_VEC Vec16 first_n(Vec16 a, int n, Vec16 fill) {
  return {first_n4(a.q0, n, fill.q0), first_n4(a.q1, n - 4, fill.q1), first_n4(a.q2, n - 8, fill.q2), first_n4(a.q3, n - 12, fill.q3)};
}

HVL_VEC Vec16 zip_low(Vec16 a, Vec16 b) {
  return {vzip1q_f32(a.q0, b.q0), vzip2q_f32(a.q0, b.q0), vzip1q_f32(a.q1, b.q1), vzip2q_f32(a.q1, b.q1)};
}
HVL_VEC Vec16 zip_high(Vec16 a, Vec16 b) {
  return {vzip1q_f32(a.q2, b.q2), vzip2q_f32(a.q2, b.q2), vzip1q_f32(a.q3, b.q3), vzip2q_f32(a.q3, b.q3)};
}

HVL_VEC float32x4_t scale_exp2_4(float32x4_t p, float32x4_t n) {
  const int32x4_t k = vcvtnq_s32_f32(n), half = vshrq_n_s32(k, 1), bias = vdupq_n_s32(127);
  const int32x4_t first = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(k, half), bias), 23);
  return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second));
}
HVL_VEC Vec16 scale_exp2(Vec16 p, Vec16 n) { return HVL_EACH2(scale_exp2_4, p, n); }

HVL_VEC float merge_add(Vec16 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.q0, a.q2), vaddq_f32(a.q1, a.q3));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

HVL_VEC float merge_max(Vec16 a) {
  const float32x4_t four = max4(max4(a.q0, a.q2), max4(a.q1, a.q3));
  const float32x4_t two = max4(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(max4(two, vextq_f32(two, two, 1)), 0);
}

HVL_VEC float scalar_sqrt(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

struct Ints {
  int32x4_t q0, q1, q2, q3;
};

inline constexpr bool kByteDots = true;

HVL_VEC Ints ints_set1(int32_t x) {
  const int32x4_t q = vdupq_n_s32(x);
  return {q, q, q, q};
}
HVL_VEC Ints ints_zero() { return ints_set1(0); }

HVL_VEC int32x4_t load_bytes4(const void* p, int at) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p) + 16 * at)); }
HVL_VEC void store_bytes4(void* p, int at, int32x4_t q) { vst1q_u8(static_cast<uint8_t*>(p) + 16 * at, vreinterpretq_u8_s32(q)); }
HVL_VEC Ints ints_load(const void* p) { return {load_bytes4(p, 0), load_bytes4(p, 1), load_bytes4(p, 2), load_bytes4(p, 3)}; }
HVL_VEC void ints_store(void* p, Ints x) {
  store_bytes4(p, 0, x.q0);
  store_bytes4(p, 1, x.q1);
  store_bytes4(p, 2, x.q2);
  store_bytes4(p, 3, x.q3);
}

HVL_VEC Ints ints_broadcast(const void* p) {
  int32_t x;
  __builtin_memcpy(&x, p, sizeof(x));
  return ints_set1(x);
}

HVL_VEC Ints ints_and(Ints a, Ints b) { return HVL_EACH2(vandq_s32, a, b); }
HVL_VEC Ints ints_or(Ints a, Ints b) { return HVL_EACH2(vorrq_s32, a, b); }
HVL_VEC Ints ints_xor(Ints a, Ints b) { return HVL_EACH2(veorq_s32, a, b); }
HVL_VEC Ints ints_max(Ints a, Ints b) { return HVL_EACH2(vmaxq_s32, a, b); }
HVL_VEC int32_t ints_merge_max(Ints a) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.q0, a.q1), vmaxq_s32(a.q2, a.q3))); }

HVL_VEC Ints float_bits(Vec16 x) { return HVL_EACH1(vreinterpretq_s32_f32, x); }
HVL_VEC Vec16 to_float(Ints x) { return HVL_EACH1(vcvtq_f32_s32, x); }
HVL_VEC Ints round_to_ints(Vec16 x) { return HVL_EACH1(vcvtnq_s32_f32, x); }

// Low words of lanes 0..7 (8..15) in order.
HVL_VEC int16x8_t low_words(int32x4_t a, int32x4_t b) { return vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)); }
HVL_VEC int16x8_t high_words(int32x4_t a, int32x4_t b) { return vuzp2q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)); }

HVL_VEC void store_bytes(void* p, Ints x) {
  const int8x16_t low = vreinterpretq_s8_s16(low_words(x.q0, x.q1)), high = vreinterpretq_s8_s16(low_words(x.q2, x.q3));
  vst1q_s8(static_cast<int8_t*>(p), vuzp1q_s8(low, high));
}

HVL_VEC void store_words(void* p, Ints x) {
  vst1q_s8(static_cast<int8_t*>(p), vreinterpretq_s8_s16(low_words(x.q0, x.q1)));
  vst1q_s8(static_cast<int8_t*>(p) + 16, vreinterpretq_s8_s16(low_words(x.q2, x.q3)));
}

HVL_VEC void store_words_0213(void* p, Ints x) {
  constexpr uint8_t kOrder[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  const uint8x16_t order = vld1q_u8(kOrder);
  vst1q_s8(static_cast<int8_t*>(p), vqtbl1q_s8(vreinterpretq_s8_s16(low_words(x.q0, x.q1)), order));
  vst1q_s8(static_cast<int8_t*>(p) + 16, vqtbl1q_s8(vreinterpretq_s8_s16(low_words(x.q2, x.q3)), order));
}

HVL_VEC int32x4_t join_words4(int32x4_t a, int32x4_t b) { return vsliq_n_s32(a, b, 16); }
HVL_VEC Ints join_words(Ints a, Ints b) { return HVL_EACH2(join_words4, a, b); }

HVL_VEC int32x4_t join_bytes4(int32x4_t even, int32x4_t odd) {
  return vreinterpretq_s32_s16(vsliq_n_s16(vreinterpretq_s16_s32(even), vreinterpretq_s16_s32(odd), 8));
}
HVL_VEC Ints join_bytes(Ints a, Ints b, Ints c, Ints d) {
  const Ints even = join_words(a, c), odd = join_words(b, d);
  return HVL_EACH2(join_bytes4, even, odd);
}

HVL_VEC int32x4_t odd_bytes4(int32x4_t a) { return vreinterpretq_s32_s16(vshrq_n_s16(vreinterpretq_s16_s32(a), 8)); }
HVL_VEC int32x4_t even_bytes4(int32x4_t a) { return odd_bytes4(vreinterpretq_s32_s16(vshlq_n_s16(vreinterpretq_s16_s32(a), 8))); }
HVL_VEC Ints even_bytes(Ints a) { return HVL_EACH1(even_bytes4, a); }
HVL_VEC Ints odd_bytes(Ints a) { return HVL_EACH1(odd_bytes4, a); }

// Products of the low words, then of the high words, of eight lanes. Words taken apart once serve all sums that they go into.
HVL_VEC Ints dot_words(Ints sum, Ints a, Ints b) {
  const int16x8_t a_low = low_words(a.q0, a.q1), b_low = low_words(b.q0, b.q1), a_high = high_words(a.q0, a.q1), b_high = high_words(b.q0, b.q1);
  sum.q0 = vmlal_s16(vmlal_s16(sum.q0, vget_low_s16(a_low), vget_low_s16(b_low)), vget_low_s16(a_high), vget_low_s16(b_high));
  sum.q1 = vmlal_high_s16(vmlal_high_s16(sum.q1, a_low, b_low), a_high, b_high);
  const int16x8_t c_low = low_words(a.q2, a.q3), d_low = low_words(b.q2, b.q3), c_high = high_words(a.q2, a.q3), d_high = high_words(b.q2, b.q3);
  sum.q2 = vmlal_s16(vmlal_s16(sum.q2, vget_low_s16(c_low), vget_low_s16(d_low)), vget_low_s16(c_high), vget_low_s16(d_high));
  sum.q3 = vmlal_high_s16(vmlal_high_s16(sum.q3, c_low, d_low), c_high, d_high);
  return sum;
}

#ifdef __ARM_FEATURE_MATMUL_INT8
HVL_VEC int32x4_t dot_bytes4(int32x4_t sum, int32x4_t a, int32x4_t b) {
  return vusdotq_s32(sum, vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(b));
}
#else
// dotprod has no product of unsigned and signed bytes: a - 128 is signed, and 128 times the sum of b comes back.
HVL_VEC int32x4_t dot_bytes4(int32x4_t sum, int32x4_t a, int32x4_t b) {
  const int8x16_t offset = vdupq_n_s8(-128), signed_a = veorq_s8(vreinterpretq_s8_s32(a), offset), signed_b = vreinterpretq_s8_s32(b);
  return vsubq_s32(vdotq_s32(sum, signed_a, signed_b), vdotq_s32(vdupq_n_s32(0), offset, signed_b));
}
#endif
HVL_VEC Ints dot_bytes(Ints sum, Ints a, Ints b) { return HVL_EACH3(dot_bytes4, sum, a, b); }

#undef HVL_EACH1
#undef HVL_EACH2
#undef HVL_EACH3

}  // namespace hvl::vec16_neon

namespace hvl {
namespace vec = vec16_neon;
}

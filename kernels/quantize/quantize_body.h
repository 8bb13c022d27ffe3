// The body all variants share: plain loops that the compiler vectorises for each instruction set. Every step is exact or a single
// IEEE operation, so the width makes no difference to the result. Included by one .cc a variant; static, so that no weak symbol appears.
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/quantize/quantize.h"

namespace hvl {
namespace {

// Added and taken away again, it leaves the nearest integer (ties to even) of any |v| < 2^22.
constexpr float kRounder = 0x1.8p23f;

inline float bits_to_float(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline int32_t float_to_bits(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// values: group_size integers, zeros behind the columns -> planes and sums of one group.
inline void store_group(const int32_t* values, int32_t group_size, int32_t bits, uint8_t* first, uint8_t* low, int32_t* sums) {
  int32_t sum = 0, sum_high = 0;
  if (bits == 8) {
    for (int32_t i = 0; i < group_size; ++i) {
      first[i] = uint8_t(values[i]);
      sum += values[i];
    }
    sum_high = sum;
  } else {
    for (int32_t i = 0; i < group_size; ++i) {
      first[i] = uint8_t(values[i] >> 8);
      low[i] = uint8_t(values[i]);
      sum += values[i];
      sum_high += values[i] >> 8;
    }
  }
  sums[0] = sum;
  sums[1] = sum_high;
}

// What a group's scale and factor follow from max |x|. The factor is 0 where all of the group becomes 0.
struct GroupScale {
  float scale, inverse;
};
inline GroupScale group_scale(int32_t top, float limit) {
  if (top >= 0x7f800000) return {bits_to_float(0x7fc00000), 0.0f};
  const float m = bits_to_float(top);
  if (m < 1e-30f) return {0.0f, 0.0f};
  return {m / limit, limit / m};
}

// One group of n values, fewer than group_size in the last one of a row, with zeros behind them.
struct PlainGroup {
  // max |x| as bits: non-negative floats order as their bits do, with infinity and then NaN on top, whatever the order of the loop.
  static int32_t max_magnitude_bits(const float* x, int32_t n) {
    int32_t top = 0;
    for (int32_t i = 0; i < n; ++i) {
      const int32_t bits = float_to_bits(x[i]) & 0x7fffffff;
      top = bits > top ? bits : top;
    }
    return top;
  }

  // x * inverse, rounded -> planes and sums. Does not look at x when inverse is 0.
  static void store(const float* x, int32_t n, float inverse, float limit, int32_t group_size, int32_t bits, uint8_t* first, uint8_t* low,
                    int32_t* sums) {
    if (inverse == 0.0f) n = 0;
    alignas(64) int32_t values[kMostGroup];
    memset(values + n, 0, (group_size - n) * sizeof(int32_t));
    for (int32_t i = 0; i < n; ++i) {
      float v = x[i] * inverse;
      v = v > limit ? limit : v;
      v = v < -limit ? -limit : v;
      values[i] = int32_t((v + kRounder) - kRounder);
    }
    store_group(values, group_size, bits, first, low, sums);
  }
};

template <typename Group>
inline void quantize_rows(const QuantizeArgs& args, int32_t begin, int32_t end) {
  const QuantizedRows& out = args.out;
  const int32_t groups = quantized_groups(out.cols, out.group_size), padded_cols = groups * out.group_size;
  const float limit = out.bits == 16 ? 32767.0f : 127.0f;
  for (int32_t row = begin; row < end; ++row) {
    uint8_t* q = out.q + int64_t(row) * padded_cols * (out.bits / 8);
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t k = g * out.group_size, left = out.cols - k, n = left < out.group_size ? left : out.group_size;
      const int64_t at = int64_t(row) * groups + g;
      const float* x = args.x + row * args.x_stride + k;
      const GroupScale s = group_scale(Group::max_magnitude_bits(x, n), limit);
      out.scales[at] = s.scale;
      Group::store(x, n, s.inverse, limit, out.group_size, out.bits, q + k, q + padded_cols + k, out.sums + 2 * at);
    }
  }
}

inline void quantize_rows_i16(const QuantizeI16Args& args, int32_t begin, int32_t end) {
  const QuantizedRows& out = args.out;
  const int32_t groups = quantized_groups(out.cols, out.group_size), padded_cols = groups * out.group_size;
  alignas(64) int32_t values[kMostGroup];
  for (int32_t row = begin; row < end; ++row) {
    uint8_t* q = out.q + int64_t(row) * padded_cols * 2;
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t k = g * out.group_size, left = out.cols - k;
      const int32_t n = left < out.group_size ? left : out.group_size;
      const int64_t at = int64_t(row) * groups + g;
      const int16_t* x = args.x + int64_t(row) * out.cols + k;
      memset(values + n, 0, (out.group_size - n) * sizeof(int32_t));
      for (int32_t i = 0; i < n; ++i) values[i] = x[i];
      out.scales[at] = args.scale;
      store_group(values, out.group_size, 16, q + k, q + padded_cols + k, out.sums + 2 * at);
    }
  }
}

}  // namespace
}  // namespace hvl

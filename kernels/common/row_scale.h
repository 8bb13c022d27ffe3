// A row of floats as integers of one scale, by the rule of kernels/quantize. Include a vec16_*.h first.
#pragma once

namespace hvl {
namespace {

struct RowScale {
  float scale;    // value = integer * scale
  float inverse;  // what values are multiplied by before they are rounded; 0: all become 0
};

// `top`: bits of the largest magnitude m (vec::float_bits). m < 1e-30: zeros of scale 0; infinite or NaN: zeros of scale NaN, so that results
// are NaN and not wrong numbers. Else integers of magnitude `limit` at most (below 2^15, so that no rounding of m * inverse can pass it).
HVL_VEC RowScale row_scale(int32_t top, float limit) {
  if (top >= 0x7f800000) return {__builtin_nanf(""), 0.0f};
  float m;
  __builtin_memcpy(&m, &top, sizeof(m));
  if (!(m >= 1e-30f)) return {0.0f, 0.0f};
  return {m / limit, limit / m};
}

HVL_VEC vec::Ints to_row_scale(vec::Vec16 x, RowScale s) {
  return s.inverse == 0.0f ? vec::ints_zero() : vec::round_to_ints(vec::mul(x, vec::set1(s.inverse)));
}

// Bits of the largest magnitude of n values.
HVL_VEC int32_t row_top(const float* x, int32_t n) {
  vec::Ints top = vec::ints_zero();
  for (int32_t i = 0; i < n; i += 16) {
    const vec::Vec16 values = n - i >= 16 ? vec::load(x + i) : vec::load_n(x + i, n - i);
    top = vec::ints_max(top, vec::float_bits(vec::abs(values)));
  }
  return vec::ints_merge_max(top);
}

}  // namespace
}  // namespace hvl

// 2^x of the integer arithmetic (docs/integer_arithmetic.md, section Attention).
#pragma once

#include "kernels/common/fixed.h"

namespace hvl::fixed {
namespace {

constexpr int32_t kExp2Fraction = 30;

// x: an activation, at most 0. A polynomial (tools/integer_tables.py) of x's fraction, shifted down by its whole part: within 4e-6 of 2^x,
// relative, and one unit.
inline int32_t exp2_of(int32_t x) {
  const int32_t f = x & ((1 << kFraction) - 1);
  int32_t p = 14416650;
  p = mul15(p, f) + 56093236;
  p = mul15(p, f) + 259075314;
  p = mul15(p, f) + 744150338;
  p = mul15(p, f) + 1073741824;
  return shift_down(p, -(x >> kFraction));
}

}  // namespace
}  // namespace hvl::fixed

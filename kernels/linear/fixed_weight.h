// The scale of a row of a packed (row block, group) in integers: for linear and embed.
#pragma once

#include "kernels/common/fixed.h"
#include "kernels/linear/linear.h"

namespace hvl::fixed {
namespace {

// group: where the (row block, group) starts; r: the row in its block.
inline WeightScale weight_scale(const LinearWeight& weight, const uint8_t* group, int32_t r) {
  if (weight.scale_bits == 16) {
    uint16_t half;
    __builtin_memcpy(&half, group + 2 * r, sizeof half);
    return weight_scale_f16(half);
  }
  uint32_t bits;
  __builtin_memcpy(&bits, group + 4 * r, sizeof bits);
  return weight_scale_f32(bits);
}

}  // namespace
}  // namespace hvl::fixed

// The exact dots of linear.h for 16-bit activations, before any scaling: what linear on Hexagon is built on.
//
//   dots[block][group][token][r] = sum_k x[token][k] * w[block * 32 + r][k]     over the group's k, exact int32 (linear.h says why it fits)
//
// Zero points are not taken off here.
#pragma once

#include <stdint.h>

namespace hvl {

struct LinearDotsArgs {
  const uint8_t* x;       // (tokens, 2, groups * group_size): int8 `hi`, uint8 `lo` of quantize.h; 8-byte aligned
  const int32_t* sums;    // (tokens, groups): the sum of each group's values
  const uint8_t* values;  // the vectors of linear.h of block 0, group 0; 128-byte aligned, as both strides, for HVX drops lower bits
  int32_t block_stride;   // bytes from one row block to the next
  int32_t group_stride;   // bytes from one group to the next
  int32_t* dots;          // (row_blocks, groups, tokens, 32), 128-byte aligned
  int32_t tokens;
  int32_t row_blocks;
  int32_t groups;
  int32_t group_size;  // as linear_group_fits says
  int32_t bits;        // 4 or 8
};
// Work unit: one row block for all tokens.

void linear_dots_reference(const LinearDotsArgs& args, int32_t begin, int32_t end) noexcept;
void linear_dots_hexagon_hvx(const LinearDotsArgs& args, int32_t begin, int32_t end) noexcept;

}  // namespace hvl

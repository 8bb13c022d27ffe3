// y = x W^T (+ bias) (+ residual), with W in 4 or 8 bits and x in 16 or 8 bits, both scaled by groups along K.
//
// Arithmetic, the same to the bit in every variant. For one token and one output row, over the groups g = 0 .. G-1 in order:
//   dot_g = sum_k q_x[k] * (q_w[k] - zero_g)           exact int32 (512 * 32767 * 128 and 128 * 32767 * 255 are below 2^31); zero_g is 0 without
//                                                      zero points
//   acc   = fma(float(dot_g), scale_w[g] * scale_x[g], acc)     float32, acc starts at +0
//   y     = acc;  y = y + bias (if bias);  y = residual + y (if residual)
//
// Packed weight layout, one for all instruction sets. Rows are taken in blocks of kLinearRowBlock = 32 (N padded with zero
// weights), K is padded with zero weights to a multiple of group_size. A row block is contiguous; in it, for each group:
//   32 scales (row 0 .. 31), F16 or F32                                          (64 or 128 bytes)
//   with zero points: 32 of them, int16                                          (64 bytes)
//   4 bit: group_size / 8 vectors of 128 bytes; vector j holds k = 8j .. 8j+7: byte 4r + b = row r,
//          low nibble w[8j + b] + 8, high nibble w[8j + 4 + b] + 8               (b = 0 .. 3)
//   8 bit: group_size / 4 vectors of 128 bytes; vector j holds k = 4j .. 4j+3: byte 4r + b = row r, w[4j + b] as int8
// So lane r of a dot-product instruction is output row r, and nibbles are never widened beyond 8 bits.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/quantize/quantize.h"

namespace hvl {

inline constexpr int32_t kLinearRowBlock = 32;

struct LinearWeight {
  const uint8_t* data;  // packed as above, 64-byte aligned
  int32_t rows;         // N, outputs
  int32_t cols;         // K, inputs
  int32_t bits;         // 4 or 8
  int32_t group_size;   // 32, 64 or 128; for 8 bits without zero points also 256, 384 or 512
  int32_t scale_bits;   // 16 (F16) or 32 (F32)
  int32_t zero_points = 0;  // 1: a zero point a row and group, in the range of the weights; 0: symmetric
};

inline bool linear_group_fits(const LinearWeight& w) {
  if (w.group_size == 32 || w.group_size == 64 || w.group_size == 128) return true;
  return w.bits == 8 && !w.zero_points && w.group_size % 128 == 0 && 0 < w.group_size && w.group_size <= kMostGroup;
}

// Bytes of the scales and zero points of one (row block, group), of all of it, of one row block, and of the whole packed weight.
inline size_t linear_scale_bytes(const LinearWeight& w) { return size_t(kLinearRowBlock) * (w.scale_bits / 8); }
inline size_t linear_header_bytes(const LinearWeight& w) {
  return linear_scale_bytes(w) + (w.zero_points ? kLinearRowBlock * sizeof(int16_t) : 0);
}
inline size_t linear_group_bytes(const LinearWeight& w) {
  return linear_header_bytes(w) + size_t(kLinearRowBlock) * w.group_size * w.bits / 8;
}
inline int32_t linear_groups(const LinearWeight& w) { return (w.cols + w.group_size - 1) / w.group_size; }
inline int32_t linear_row_blocks(const LinearWeight& w) { return (w.rows + kLinearRowBlock - 1) / kLinearRowBlock; }
inline size_t linear_block_bytes(const LinearWeight& w) { return linear_group_bytes(w) * linear_groups(w); }
inline size_t linear_bytes(const LinearWeight& w) { return linear_block_bytes(w) * linear_row_blocks(w); }

struct LinearArgs {
  QuantizedRows x;         // (tokens, K), group_size equal to the weight's
  LinearWeight weight;     // (N, K)
  const float* bias;       // (N) or null
  const float* residual;   // (tokens, N), row stride out_stride, or null; may be the same memory as out
  float* out;              // (tokens, N)
  int64_t out_stride;      // floats from one token to the next
};
// Work unit: one row block (32 outputs) for all tokens; units = linear_row_blocks(weight).

}  // namespace hvl

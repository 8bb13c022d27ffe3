// Activations to integers, by token and group along K, in the planes that byte dot products take.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hvl {

inline constexpr int32_t kMostGroup = 512;

// (rows, cols) activations. cols is padded with zeros to padded_cols, a multiple of group_size.
// bits 16: value = 256 * hi + lo; a row is padded_cols int8 `hi`, then padded_cols uint8 `lo`. bits 8: a row is padded_cols int8.
struct QuantizedRows {
  uint8_t* q;        // rows * padded_cols * bits / 8 bytes, 64-byte aligned
  float* scales;     // (rows, groups)
  int32_t* sums;     // (rows, groups, 2): sum of the values; sum of `hi` (bits 16) or of the values again (bits 8)
  int32_t rows;
  int32_t cols;
  int32_t group_size;  // 32, 64, 128, 256, 384 or 512
  int32_t bits;        // 16 or 8
};

inline int32_t quantized_groups(int32_t cols, int32_t group_size) { return (cols + group_size - 1) / group_size; }

// Where the three parts lie in one block of memory (64-byte aligned parts).
struct QuantizedRowsLayout {
  size_t scales_offset, sums_offset, bytes;
};
inline QuantizedRowsLayout quantized_rows_layout(int32_t rows, int32_t cols, int32_t group_size, int32_t bits) {
  const size_t groups = quantized_groups(cols, group_size);
  const auto up = [](size_t n) { return (n + 63) / 64 * 64; };
  QuantizedRowsLayout l;
  l.scales_offset = up(size_t(rows) * groups * group_size * (bits / 8));
  l.sums_offset = l.scales_offset + up(rows * groups * sizeof(float));
  l.bytes = l.sums_offset + up(rows * groups * 2 * sizeof(int32_t));
  return l;
}
inline QuantizedRows quantized_rows_at(void* base, int32_t rows, int32_t cols, int32_t group_size, int32_t bits) {
  const QuantizedRowsLayout l = quantized_rows_layout(rows, cols, group_size, bits);
  uint8_t* p = static_cast<uint8_t*>(base);
  return {p, reinterpret_cast<float*>(p + l.scales_offset), reinterpret_cast<int32_t*>(p + l.sums_offset), rows, cols, group_size, bits};
}

// float32 -> integers. For each group: m = max |x|; limit = 32767 or 127;
// m < 1e-30: all zero, scale 0. m infinite or NaN: all zero, scale NaN (results are NaN, not wrong numbers). Else scale = m / limit, q = clamp(round_to_nearest_even(x * (limit / m)), -limit, limit).
struct QuantizeArgs {
  const float* x;    // (rows, cols)
  int64_t x_stride;  // floats
  QuantizedRows out;
};
// Work unit: one row.

// int16 of one fixed scale (pixels) -> 16-bit planes.
struct QuantizeI16Args {
  const int16_t* x;  // (rows, cols), contiguous
  float scale;
  QuantizedRows out;  // bits 16
};
// Work unit: one row.

}  // namespace hvl

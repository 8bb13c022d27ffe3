// Quantised weights into the packed layout of kernels/linear/linear.h. Host side, plain C++, no allocation.
#pragma once

#include <stdint.h>

#include "kernels/linear/linear.h"

namespace hvl {

// True when every one of n scales is exactly an F16 value, so that scale_bits 16 loses nothing; otherwise use scale_bits 32.
bool scales_fit_f16(const float* scales, int64_t n);

// Packs row blocks [block_begin, block_end) of `layout` (its data is not used) into dst, the start of the whole packed weight
// (linear_bytes(layout) bytes). Disjoint ranges may be packed at the same time. Rows and columns beyond the weight become zeros.
// Returns false when scale_bits is 16 and a scale of these blocks is not exactly an F16 value (what was packed is then not valid).
bool pack_linear(const int8_t* q,       // (rows, cols), values in [-8, 7] or [-128, 127]
                 const float* scales,   // (rows, scale_cols)
                 const int8_t* zero_points,  // (rows, scale_cols) if the layout has zero points, else not read
                 int32_t scale_cols,    // linear_groups(layout), or 1: one scale a row, replicated
                 const LinearWeight& layout, uint8_t* dst, int32_t block_begin, int32_t block_end);

// The same from compressed-tensors' weight_packed: a value is stored as value + 2^(bits-1), lowest bits first along K.
bool pack_linear_words(const int32_t* words,       // (rows, words_per_row)
                       int64_t words_per_row,      // at least ceil(cols * bits / 32)
                       const float* scales,        // (rows, scale_cols)
                       const int8_t* zero_points,  // (rows, scale_cols) if the layout has zero points, else not read
                       int32_t scale_cols,         // linear_groups(layout), or 1
                       const LinearWeight& layout, uint8_t* dst, int32_t block_begin, int32_t block_end);

// One row back: q (cols), scales and zero_points (linear_groups; zeros where the weight has none).
void unpack_row(const LinearWeight& weight, int32_t row, int8_t* q, float* scales, int8_t* zero_points);

}  // namespace hvl

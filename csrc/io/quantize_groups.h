// Float weights to integers with one scale a group: round to nearest, symmetric, optionally with the clipping that costs least error.
#pragma once

#include <stdint.h>

namespace hvl {

// For each row and group of `group_size` columns: the scale is absmax / (2^(bits-1) - 1) times a ratio, rounded to F16; with `search` the
// ratio (1 down to 0.5 for 4 bits, to 0.8 for 8) is the one with the least squared error, else 1. Groups of zeros get the scale 2^-14,
// so that nobody divides by zero. Threaded over rows; the result does not depend on the threads.
// Error kValue: bits other than 4 or 8, a group that does not divide the columns, values that are not finite.
void quantize_groups(const float* weight,                // (rows, cols)
                     int64_t rows, int64_t cols, int32_t bits,
                     int64_t group_size,                 // divides cols; cols itself: one scale a row
                     bool search,
                     int8_t* q,                          // (rows, cols)
                     float* scales);                     // (rows, cols / group_size), exact in F16

}  // namespace hvl

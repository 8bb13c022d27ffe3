// A checkpoint's float arrays in the formats of the integer arithmetic (docs/integer_arithmetic.md), and its activations as floats again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/base/arena.h"
#include "csrc/runtime/executable.h"

namespace hvl {

// Puts converted copies of norm weights, biases and constant rows in the place of the arrays that the Program's norm, rope and linear ops read;
// returns their memory. Throws Error(kCheckpoint) naming an array with a value that the format does not hold.
Arena convert_arrays(const Program& program, std::vector<ResolvedWeight>& weights);

// A cosine or sine.
int32_t rotation_word(double value);

// n activations, which lie in `values` as int32, to floats in place.
void activations_to_floats(float* values, size_t n);

}  // namespace hvl

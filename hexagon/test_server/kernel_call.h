// What a kernel under test gets from the test server, and the list of them.
#pragma once

#include <stdint.h>

#include "hexagon/dsp/counters.h"

namespace hvl {

// Kernels by the names that tests call them by. Each is a function `void NAME(KernelCall&)` in hexagon/test_server or in a kernel's
// hexagon_testing.cc.
#define HVL_HEXAGON_TESTS(X) \
  X(echo)                    \
  X(hang)                    \
  X(write_past_end)          \
  X(write_to_input)          \
  X(read_past_guard)         \
  X(activation_fixed)        \
  X(activation_hvx)          \
  X(silu_mul_fixed)          \
  X(silu_mul_hvx)            \
  X(norm_fixed)              \
  X(norm_hvx)                \
  X(pixel_shuffle_reference) \
  X(pixel_shuffle_hvx)       \
  X(patchify_reference)      \
  X(patchify_hvx)            \
  X(attention_fixed)         \
  X(attention_hvx)           \
  X(kv_store_fixed)          \
  X(kv_store_hvx)            \
  X(rope_fixed)              \
  X(rope_hvx)                \
  X(linear_fixed)            \
  X(linear_hvx)              \
  X(add_fixed)               \
  X(add_hvx)                 \
  X(embed_fixed)             \
  X(embed_hvx)               \
  X(quantize_fixed)          \
  X(quantize_hvx)            \
  X(quantize_i16_fixed)      \
  X(quantize_i16_hvx)        \
  X(resize_horizontal_reference) \
  X(resize_horizontal_hvx)   \
  X(resize_vertical_reference) \
  X(resize_vertical_hvx)     \
  X(vrc_stem_reference)      \
  X(vrc_stem_hvx)            \
  X(vrc_depthwise_reference) \
  X(vrc_depthwise_hvx)       \
  X(vrc_pointwise_reference) \
  X(vrc_pointwise_hvx)       \
  X(vrc_pool_reference)      \
  X(vrc_pool_hvx)

// 128-byte aligned; the memory beyond its end, up to a multiple of 128, is watched for writes, and what follows that may not be touched.
struct Buffer {
  uint8_t* data;
  uint32_t bytes;
};

struct KernelCall {
  const int32_t* scalars;
  uint32_t scalar_count;
  const Buffer* inputs;  // read-only memory
  uint32_t input_count;
  const Buffer* outputs;  // filled with 0xcd
  uint32_t output_count;
  Counts counts = {};
  const char* error = nullptr;  // why the kernel refuses its arguments

  // False, with an error, unless there are so many of each.
  bool has(uint32_t scalars_expected, uint32_t inputs_expected, uint32_t outputs_expected) {
    return check(scalar_count == scalars_expected && input_count == inputs_expected && output_count == outputs_expected,
                 "another number of scalars, inputs or outputs");
  }
  bool check(bool holds, const char* otherwise) {
    if (!holds && !error) error = otherwise;
    return holds;
  }
  // Runs what is to be counted.
  template <class Body>
  void measure(const Body& body) {
    counts = count(body);
  }
};

#define HVL_DECLARE(name) void name(KernelCall& call);
HVL_HEXAGON_TESTS(HVL_DECLARE)
#undef HVL_DECLARE

}  // namespace hvl

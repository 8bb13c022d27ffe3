// The body all variants share: a row is some kilobytes gathered once a token, so plain code is enough. Static, so that no weak symbol appears.
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/embed/embed.h"
#include "kernels/linear/f16.h"

namespace hvl {
namespace {

// The zero point of row r of a (row block, group) that starts at `group`, and its scale.
inline int32_t zero_point_of_row(const LinearWeight& weight, const uint8_t* group, int32_t r) {
  int16_t zero_point = 0;
  if (weight.zero_points) memcpy(&zero_point, group + linear_scale_bytes(weight) + 2 * r, sizeof zero_point);
  return zero_point;
}
inline float scale_of_row(const LinearWeight& weight, const uint8_t* group, int32_t r) {
  if (weight.scale_bits == 16) {
    uint16_t half;
    memcpy(&half, group + 2 * r, sizeof half);
    return f32_from_f16(half);
  }
  float scale;
  memcpy(&scale, group + 4 * r, sizeof scale);
  return scale;
}

inline void embed_row(const LinearWeight& weight, int32_t id, float* out) {
  const uint8_t* block = weight.data + size_t(id / kLinearRowBlock) * linear_block_bytes(weight);
  const int32_t r = id % kLinearRowBlock, groups = linear_groups(weight);
  for (int32_t g = 0; g < groups; ++g) {
    const uint8_t* group = block + size_t(g) * linear_group_bytes(weight);
    const float scale = scale_of_row(weight, group, r);
    const int32_t zero_point = zero_point_of_row(weight, group, r);
    const uint8_t* values = group + linear_header_bytes(weight) + 4 * r;
    const int32_t left = weight.cols - g * weight.group_size;
    const int32_t n = left < weight.group_size ? left : weight.group_size;
    float* to = out + g * weight.group_size;
    for (int32_t i = 0; i < n; ++i) {
      if (weight.bits == 4) {
        const int32_t byte = values[i / 8 * 128 + i % 4];
        to[i] = float((i % 8 < 4 ? byte & 15 : byte >> 4) - 8 - zero_point) * scale;
      } else {
        to[i] = float(int8_t(values[i / 4 * 128 + i % 4]) - zero_point) * scale;
      }
    }
  }
}

inline void embed_rows(const EmbedArgs& args, int32_t begin, int32_t end) {
  for (int32_t row = begin; row < end; ++row) {
    if (args.ids[row] >= 0) embed_row(args.weight, args.ids[row], args.out + row * args.out_stride);
  }
}

}  // namespace
}  // namespace hvl

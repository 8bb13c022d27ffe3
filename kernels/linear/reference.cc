// The contract of linear.h written out: one token, one row block, one group at a time. Slow and portable.
#include <string.h>

#include "kernels/linear/f16.h"
#include "kernels/linear/linear.h"

namespace hvl {
namespace {

int32_t x_value(const QuantizedRows& x, int32_t padded_cols, int32_t token, int32_t k) {
  const uint8_t* row = x.q + int64_t(token) * padded_cols * (x.bits / 8);
  const int32_t first = int8_t(row[k]);
  return x.bits == 16 ? 256 * first + row[padded_cols + k] : first;
}

// dot[r] = sum over the group of x * (w[r] - zero_points[r]), for the 32 rows of a block.
void group_dots(const LinearArgs& args, const uint8_t* values, const int16_t* zero_points, int32_t padded_cols, int32_t token,
                int32_t group, int32_t* dot) {
  const int32_t group_size = args.weight.group_size;
  memset(dot, 0, kLinearRowBlock * sizeof(int32_t));
  for (int32_t i = 0; i < group_size; ++i) {
    const int32_t x = x_value(args.x, padded_cols, token, group * group_size + i);
    if (args.weight.bits == 4) {
      const uint8_t* vector = values + i / 8 * 128 + i % 4;
      const int shift = i % 8 < 4 ? 0 : 4;
      for (int32_t r = 0; r < kLinearRowBlock; ++r) dot[r] += x * ((vector[4 * r] >> shift & 15) - 8 - zero_points[r]);
    } else {
      const uint8_t* vector = values + i / 4 * 128 + i % 4;
      for (int32_t r = 0; r < kLinearRowBlock; ++r) dot[r] += x * (int8_t(vector[4 * r]) - zero_points[r]);
    }
  }
}

void group_scales(const LinearWeight& weight, const uint8_t* group, float* scales) {
  if (weight.scale_bits == 32) {
    memcpy(scales, group, kLinearRowBlock * sizeof(float));
    return;
  }
  uint16_t halves[kLinearRowBlock];
  memcpy(halves, group, sizeof halves);
  for (int32_t r = 0; r < kLinearRowBlock; ++r) scales[r] = f32_from_f16(halves[r]);
}

}  // namespace

void linear_reference(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight);
  const int32_t padded_cols = groups * weight.group_size;
  for (int32_t block = begin; block < end; ++block) {
    const int32_t row0 = block * kLinearRowBlock;
    const int32_t rows = weight.rows - row0 < kLinearRowBlock ? weight.rows - row0 : kLinearRowBlock;
    for (int32_t token = 0; token < args.x.rows; ++token) {
      float acc[kLinearRowBlock] = {};
      for (int32_t g = 0; g < groups; ++g) {
        const uint8_t* group = weight.data + size_t(block) * linear_block_bytes(weight) + size_t(g) * linear_group_bytes(weight);
        int32_t dot[kLinearRowBlock];
        float scales[kLinearRowBlock];
        int16_t zero_points[kLinearRowBlock] = {};
        if (weight.zero_points) memcpy(zero_points, group + linear_scale_bytes(weight), sizeof zero_points);
        group_dots(args, group + linear_header_bytes(weight), zero_points, padded_cols, token, g, dot);
        group_scales(weight, group, scales);
        const float scale_x = args.x.scales[int64_t(token) * groups + g];
        for (int32_t r = 0; r < kLinearRowBlock; ++r) acc[r] = __builtin_fmaf(float(dot[r]), scales[r] * scale_x, acc[r]);
      }
      const int64_t at = token * args.out_stride + row0;
      for (int32_t r = 0; r < rows; ++r) {
        float y = acc[r];
        if (args.bias) y = y + args.bias[row0 + r];
        if (args.residual) y = args.residual[at + r] + y;
        args.out[at + r] = y;
      }
    }
  }
}

}  // namespace hvl

// Rows of an embedding as activations (docs/integer_arithmetic.md, section Embedding).
#include "kernels/common/fixed.h"
#include "kernels/embed/embed.h"
#include "kernels/linear/fixed_weight.h"

namespace hvl {
namespace {

void embed_row(const LinearWeight& weight, int32_t id, int32_t* out) {
  const uint8_t* block = weight.data + size_t(id / kLinearRowBlock) * linear_block_bytes(weight);
  const int32_t r = id % kLinearRowBlock, groups = linear_groups(weight);
  for (int32_t g = 0; g < groups; ++g) {
    const uint8_t* group = block + size_t(g) * linear_group_bytes(weight);
    const uint8_t* values = group + linear_header_bytes(weight) + 4 * r;
    const fixed::WeightScale scale = fixed::weight_scale(weight, group, r);
    int16_t zero_point = 0;
    if (weight.zero_points) __builtin_memcpy(&zero_point, group + linear_scale_bytes(weight) + 2 * r, sizeof zero_point);
    const int32_t left = weight.cols - g * weight.group_size, n = left < weight.group_size ? left : weight.group_size;
    for (int32_t i = 0; i < n; ++i) {
      const int32_t byte = values[(weight.bits == 4 ? i / 8 : i / 4) * 128 + i % 4];
      const int32_t w = weight.bits == 4 ? (i % 8 < 4 ? byte & 15 : byte >> 4) - 8 : int8_t(byte);
      out[g * weight.group_size + i] = fixed::round_down((w - zero_point) * scale.mantissa, -fixed::kFraction - scale.exponent);
    }
  }
}

}  // namespace

void embed_fixed(const EmbedArgs& args, int32_t begin, int32_t end) noexcept {
  auto* out = reinterpret_cast<int32_t*>(args.out);
  for (int32_t row = begin; row < end; ++row) {
    if (args.ids[row] >= 0) embed_row(args.weight, args.ids[row], out + row * args.out_stride);
  }
}

}  // namespace hvl

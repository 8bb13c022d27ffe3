// The contract of hexagon_dots.h written out. Slow and portable.
#include "kernels/linear/hexagon_dots.h"

namespace hvl {
namespace {

int32_t weight(const uint8_t* values, int32_t bits, int32_t row, int32_t k) {
  if (bits == 8) return int8_t(values[k / 4 * 128 + 4 * row + k % 4]);
  return (values[k / 8 * 128 + 4 * row + k % 4] >> (k % 8 < 4 ? 0 : 4) & 15) - 8;
}

}  // namespace

void linear_dots_reference(const LinearDotsArgs& args, int32_t begin, int32_t end) noexcept {
  const int64_t padded_cols = int64_t(args.groups) * args.group_size;
  for (int32_t block = begin; block < end; ++block) {
    for (int32_t g = 0; g < args.groups; ++g) {
      const uint8_t* values = args.values + int64_t(block) * args.block_stride + int64_t(g) * args.group_stride;
      for (int32_t token = 0; token < args.tokens; ++token) {
        const uint8_t* hi = args.x + token * 2 * padded_cols + int64_t(g) * args.group_size;
        int32_t* dots = args.dots + ((int64_t(block) * args.groups + g) * args.tokens + token) * 32;
        for (int32_t row = 0; row < 32; ++row) {
          int32_t dot = 0;
          for (int32_t k = 0; k < args.group_size; ++k)
            dot += (256 * int8_t(hi[k]) + hi[padded_cols + k]) * weight(values, args.bits, row, k);
          dots[row] = dot;
        }
      }
    }
  }
}

}  // namespace hvl

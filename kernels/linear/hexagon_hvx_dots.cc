// The dots of hexagon_dots.h: four tokens of one row block at once, two of two, or one of four, which then share the loads of x.
#include "kernels/linear/hexagon_dots.h"
#include "kernels/linear/hexagon_dots_body.h"

namespace hvl {
namespace {

// Tokens [token, token + kTokens) of blocks [block, block + kBlocks). A function each, so that its loop gets all registers.
template <int kBits, int kGroup, int kBlocks, int kTokens>
__attribute__((noinline)) void dots_of(const LinearDotsArgs& args, int32_t block, int32_t token) {
  using hexagon::Vector;
  const int32_t groups = args.groups, tokens = args.tokens, group_size = kGroup ? kGroup : args.group_size;
  const int32_t padded_cols = groups * group_size, block_stride = args.block_stride, group_stride = args.group_stride;
  const uint8_t* values = args.values + block * int64_t(block_stride);
  const uint8_t* x = args.x + int64_t(token) * 2 * padded_cols;
  const int32_t* sums = args.sums + int64_t(token) * groups;
  Vector* out = reinterpret_cast<Vector*>(args.dots) + int64_t(block) * groups * tokens + token;
  const int32_t eight = hexagon::opaque(8 * int32_t(sizeof(Vector)));
  for (int32_t g = 0; g < groups; ++g) {
    Vector dots[kBlocks][kTokens];
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_V_vsplat_R(-hexagon::kWeightOffset<kBits> * sums[t * groups]);
    }
    hexagon::GroupOperands<2, kBlocks, kTokens> of;
    for (int b = 0; b < kBlocks; ++b) of.values[b] = values + b * block_stride;
    for (int t = 0; t < kTokens; ++t) {
      of.x[t][0] = x + t * 2 * padded_cols;
      of.x[t][1] = of.x[t][0] + padded_cols;
    }
    hexagon::add_group_dots<kBits, kGroup ? kGroup : -128>(of, group_size, eight, dots);
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < kTokens; ++t) out[b * groups * tokens + t] = dots[b][t];
    }
    values += group_stride;
    x += group_size;
    sums += 1;
    out += tokens;
  }
}

// Tokens [token, token + kTokens) of all blocks, kBlocks at once while there are so many.
template <int kBits, int kGroup, int kBlocks, int kTokens>
void dots_of_tokens(const LinearDotsArgs& args, int32_t begin, int32_t end, int32_t token) {
  int32_t block = begin;
  for (; block + kBlocks <= end; block += kBlocks) dots_of<kBits, kGroup, kBlocks, kTokens>(args, block, token);
  if constexpr (kBlocks > 1) {
    for (; block < end; ++block) dots_of<kBits, kGroup, 1, kTokens>(args, block, token);
  }
}

template <int kBits, int kGroup>
void dots_of_all(const LinearDotsArgs& args, int32_t begin, int32_t end) {
  int32_t token = 0;
  for (; token + 4 <= args.tokens; token += 4) dots_of_tokens<kBits, kGroup, 1, 4>(args, begin, end, token);
  for (; token + 2 <= args.tokens; token += 2) dots_of_tokens<kBits, kGroup, 2, 2>(args, begin, end, token);
  for (; token < args.tokens; ++token) dots_of_tokens<kBits, kGroup, 4, 1>(args, begin, end, token);
}

}  // namespace

void linear_dots_hexagon_hvx(const LinearDotsArgs& args, int32_t begin, int32_t end) noexcept {
  const auto of = [&]<int kBits>() {
    switch (args.group_size) {
      case 32:
        return dots_of_all<kBits, 32>(args, begin, end);
      case 64:
        return dots_of_all<kBits, 64>(args, begin, end);
      case 128:
        return dots_of_all<kBits, 128>(args, begin, end);
      default:
        return dots_of_all<kBits, 0>(args, begin, end);
    }
  };
  args.bits == 4 ? of.template operator()<4>() : of.template operator()<8>();
}

}  // namespace hvl

// The dots of hexagon_dots.h: four tokens of one row block at once, or one or two tokens of two row blocks, which then share the loads of x.
#include "kernels/linear/hexagon_dots.h"
#include "kernels/linear/hexagon_dots_body.h"

namespace hvl {
namespace {

// Tokens [token, token + kTokens) of blocks [block, block + kBlocks).
template <int kBits, int kBlocks, int kTokens>
void dots_of(const LinearDotsArgs& args, int32_t block, int32_t token) {
  const int32_t padded_cols = args.groups * args.group_size;
  const uint8_t* values = args.values + block * args.block_stride;
  const uint8_t* x = args.x + int64_t(token) * 2 * padded_cols;
  for (int32_t g = 0; g < args.groups; ++g) {
    hexagon::Vector dots[kBlocks][kTokens];
    hexagon::group_dots<kBits, kBlocks, kTokens>(values + g * args.group_stride, args.block_stride, x + g * args.group_size, padded_cols,
                                                 args.sums + int64_t(token) * args.groups + g, args.groups, args.group_size, dots);
    for (int b = 0; b < kBlocks; ++b) {
      const int64_t at = (int64_t(block + b) * args.groups + g) * args.tokens + token;
      for (int t = 0; t < kTokens; ++t) reinterpret_cast<hexagon::Vector*>(args.dots)[at + t] = dots[b][t];
    }
  }
}

template <int kBits>
void all_dots(const LinearDotsArgs& args, int32_t begin, int32_t end) {
  int32_t token = 0;
  for (; token + 4 <= args.tokens; token += 4) {
    for (int32_t block = begin; block < end; ++block) dots_of<kBits, 1, 4>(args, block, token);
  }
  for (; token + 2 <= args.tokens; token += 2) {
    int32_t block = begin;
    for (; block + 2 <= end; block += 2) dots_of<kBits, 2, 2>(args, block, token);
    if (block < end) dots_of<kBits, 1, 2>(args, block, token);
  }
  if (token < args.tokens) {
    int32_t block = begin;
    for (; block + 2 <= end; block += 2) dots_of<kBits, 2, 1>(args, block, token);
    if (block < end) dots_of<kBits, 1, 1>(args, block, token);
  }
}

}  // namespace

void linear_dots_hexagon_hvx(const LinearDotsArgs& args, int32_t begin, int32_t end) noexcept {
  args.bits == 4 ? all_dots<4>(args, begin, end) : all_dots<8>(args, begin, end);
}

}  // namespace hvl

// Any processor: dots of pairs of 16 bits that TVM compiles (kernels/tvm/dots.py), scales in C++. In a build without TVM the reference.
//
// Weights of a row block and group are widened once for a tile of tokens, less 8 and zero points, and x of a group once for a few row blocks:
// one loop of dots serves all formats.
#include "kernels/linear/linear.h"

#ifndef HVL_TVM_KERNELS

namespace hvl {
void linear_reference(const LinearArgs& args, int32_t begin, int32_t end) noexcept;
void linear_portable(const LinearArgs& args, int32_t begin, int32_t end) noexcept { linear_reference(args, begin, end); }
}  // namespace hvl

#else

#include <string.h>

#include "kernels/common/vec16_portable.h"
#include "kernels/linear/f16.h"

extern "C" {
void hvl_tvm_widen_nibbles_portable(const uint8_t* w, const int16_t* offset, int16_t* out, int64_t vectors) noexcept;
void hvl_tvm_widen_bytes_portable(const uint8_t* w, const int16_t* offset, int16_t* out, int64_t vectors) noexcept;
void hvl_tvm_widen_x8_portable(const uint8_t* x, int16_t* out, int64_t count, int64_t tokens, int64_t row_bytes, int64_t plane) noexcept;
void hvl_tvm_widen_x16_portable(const uint8_t* x, int16_t* out, int64_t count, int64_t tokens, int64_t row_bytes, int64_t plane) noexcept;
void hvl_tvm_linear_dots_portable(const int16_t* x, const int16_t* w, int32_t* out, int64_t pairs, int64_t tokens) noexcept;
}

namespace hvl {
namespace {

constexpr int32_t kTileTokens = 32, kTileBlocks = 4, kMostPart = 128;  // a longer group in parts

// What a tile is worked on in: 52 KiB of the caches, and of the stack.
struct alignas(64) Tile {
  float acc[kTileBlocks][kTileTokens][kLinearRowBlock];
  int32_t sums[kTileBlocks][kTileTokens][kLinearRowBlock];  // of a group's parts so far
  int16_t x[kTileTokens * kMostPart];
  int16_t w[kLinearRowBlock * kMostPart];
  int32_t dots[kTileTokens][kLinearRowBlock];
  float scales[kLinearRowBlock];
  int16_t offset[kLinearRowBlock][2];
};

// Values [part, part + count) of a group as int16.
void widen_weights(const LinearWeight& weight, const uint8_t* group, int32_t part, int32_t count, Tile& tile) {
  int16_t zero_points[kLinearRowBlock] = {};
  if (weight.zero_points) memcpy(zero_points, group + linear_scale_bytes(weight), sizeof zero_points);
  const int32_t offset = weight.bits == 4 ? 8 : 0;
  for (int32_t r = 0; r < kLinearRowBlock; ++r) tile.offset[r][0] = tile.offset[r][1] = int16_t(zero_points[r] + offset);
  const uint8_t* values = group + linear_header_bytes(weight) + size_t(part) * kLinearRowBlock * weight.bits / 8;
  if (weight.bits == 4) {
    hvl_tvm_widen_nibbles_portable(values, tile.offset[0], tile.w, count / 8);
  } else {
    hvl_tvm_widen_bytes_portable(values, tile.offset[0], tile.w, count / 4);
  }
}

void load_scales(const LinearWeight& weight, const uint8_t* group, Tile& tile) {
  if (weight.scale_bits == 32) {
    memcpy(tile.scales, group, sizeof tile.scales);
  } else {
    uint16_t halves[kLinearRowBlock];
    memcpy(halves, group, sizeof halves);
    for (int32_t r = 0; r < kLinearRowBlock; ++r) tile.scales[r] = f32_from_f16(halves[r]);
  }
}

void add_part(bool first, const int32_t (*dots)[kLinearRowBlock], int32_t tokens, int32_t (*sums)[kLinearRowBlock]) {
  for (int32_t t = 0; t < tokens; ++t) {
    for (int32_t r = 0; r < kLinearRowBlock; ++r) sums[t][r] = first ? dots[t][r] : sums[t][r] + dots[t][r];
  }
}

inline void add_dots(const int32_t* dots, const float* scales, float scale_x, float* acc) {
  for (int32_t r = 0; r < kLinearRowBlock; r += 16) {
    const vec::Vec16 scale = vec::mul(vec::load(scales + r), vec::set1(scale_x));
    vec::store(acc + r, vec::fma(vec::to_float(vec::ints_load(dots + r)), scale, vec::load(acc + r)));
  }
}

void store_rows(const LinearArgs& args, int32_t block, int32_t token, const float* acc) {
  const int32_t row0 = block * kLinearRowBlock;
  const int32_t rows = args.weight.rows - row0 < kLinearRowBlock ? args.weight.rows - row0 : kLinearRowBlock;
  const int64_t at = token * args.out_stride + row0;
  for (int32_t r = 0; r < rows; ++r) {
    float y = acc[r];
    if (args.bias) y = y + args.bias[row0 + r];
    if (args.residual) y = args.residual[at + r] + y;
    args.out[at + r] = y;
  }
}

void run_tile(const LinearArgs& args, int32_t block0, int32_t blocks, int32_t token0, int32_t tokens, Tile& tile) {
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight), group_size = weight.group_size;
  const int64_t plane = int64_t(groups) * group_size, row_bytes = plane * (args.x.bits / 8);
  memset(tile.acc, 0, size_t(blocks) * sizeof tile.acc[0]);
  const auto widen_x = args.x.bits == 16 ? hvl_tvm_widen_x16_portable : hvl_tvm_widen_x8_portable;
  const int32_t count = group_size < kMostPart ? group_size : kMostPart;
  for (int32_t g = 0; g < groups; ++g) {
    for (int32_t part = 0; part < group_size; part += count) {
      widen_x(args.x.q + token0 * row_bytes + int64_t(g) * group_size + part, tile.x, count, tokens, row_bytes, plane);
      for (int32_t b = 0; b < blocks; ++b) {
        const uint8_t* group = weight.data + size_t(block0 + b) * linear_block_bytes(weight) + size_t(g) * linear_group_bytes(weight);
        widen_weights(weight, group, part, count, tile);
        hvl_tvm_linear_dots_portable(tile.x, tile.w, tile.dots[0], count / 2, tokens);
        add_part(part == 0, tile.dots, tokens, tile.sums[b]);
        if (part + count < group_size) continue;
        load_scales(weight, group, tile);
        for (int32_t t = 0; t < tokens; ++t) {
          add_dots(tile.sums[b][t], tile.scales, args.x.scales[int64_t(token0 + t) * groups + g], tile.acc[b][t]);
        }
      }
    }
  }
  for (int32_t b = 0; b < blocks; ++b) {
    for (int32_t t = 0; t < tokens; ++t) store_rows(args, block0 + b, token0 + t, tile.acc[b][t]);
  }
}

}  // namespace

void linear_portable(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  Tile tile;
  const int32_t tokens = args.x.rows, tiles = (tokens + kTileTokens - 1) / kTileTokens;
  for (int32_t block = begin; block < end; block += kTileBlocks) {
    const int32_t blocks = end - block < kTileBlocks ? end - block : kTileBlocks;
    for (int32_t i = 0; i < tiles; ++i) {
      const int32_t first = int32_t(int64_t(tokens) * i / tiles), last = int32_t(int64_t(tokens) * (i + 1) / tiles);
      run_tile(args, block, blocks, first, last - first, tile);
    }
  }
}

}  // namespace hvl

#endif

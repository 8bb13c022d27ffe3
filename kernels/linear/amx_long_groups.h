// AMX with groups of more than 128 values of K, 8-bit weights without zero points: as many products go into a dot as make storing and scaling
// it cheap beside them.
//
// A step multiplies two tiles of tokens (A8) or the two planes of one (A16) by 32 rows over a whole group: four tiles of dots, four loads for
// four products. Dots of some groups are kept, then all are scaled and added, and go out.
//
// What bounds it (a Xeon server, one thread): of the cycles beside the products (26 to 32 % of the tiles' peak, 1.4 to 1.9 times what groups of 128
// reach), about half go to loading x and weights, of which one side comes from the L2 cache in any order (the loop alone reaches 50 to 66 %),
// the others to storing dots, adding them, and writing out: 128 bytes a token and row block, each from another page and, for wide layers, from
// beyond the L2 cache, though asked for a row block ahead (1.4 to 1.6 times as fast as without). Tried and no faster: adding one step's dots
// between the products of the next, passes of 32 and 128 tokens.
#pragma once

#include "kernels/linear/amx.h"

namespace hvl {
namespace {

constexpr int32_t kLongPassTokens = 64, kChunkGroups = 8;  // their dots stay in the L2 cache

// Dots of x0 and x1, two tiles or the two planes of a tile, with a group's weights -> dots (2, 16, 32).
template <int kPlanes>
HVL_INLINE inline void tile_dots(const uint8_t* x0, const uint8_t* x1, int64_t stride, const int8_t* w, int32_t parts, int32_t* dots, OutAhead& ahead) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int32_t p = 0; p < parts; ++p, w += 64 * kLinearRowBlock, x0 += 64, x1 += 64) {
    _tile_loadd(6, w, 128);
    _tile_loadd(4, x0, stride);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, w + 64, 128);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(5, x1, stride);
    if constexpr (kPlanes == 2) {
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
    ahead.some();
  }
  constexpr int kStride = kLinearRowBlock * sizeof(int32_t);
  _tile_stored(0, dots, kStride);
  _tile_stored(1, dots + 16, kStride);
  _tile_stored(2, dots + kTileSums, kStride);
  _tile_stored(3, dots + kTileSums + 16, kStride);
}

// What a pass works on.
template <int kPlanes>
struct alignas(64) LongPass {
  static constexpr int32_t kGroupDots = kLongPassTokens * kPlanes * kLinearRowBlock;
  LongPass(const LinearArgs& linear, int32_t first_token, int32_t count) : args(linear), token0(first_token), tokens(count) {}

  const LinearArgs& args;
  int32_t token0, tokens;
  RowFactors factors[kChunkGroups];
  alignas(64) int32_t dots[kChunkGroups * kGroupDots];
  alignas(64) float acc[kLongPassTokens * kLinearRowBlock];

  // The dots of token t and a group: the first plane's; the second's follow after kTileSums.
  const int32_t* dots_of(int32_t t) const { return dots + (t / kTileTokens * kPlanes * kTileTokens + t % kTileTokens) * kLinearRowBlock; }

  // Scales and adds the dots of groups [first, first + count) of row block b; with the last of them the results go out.
  HVL_INLINE void add(int32_t b, int32_t first, int32_t count, bool last) {
    const int32_t row0 = b * kLinearRowBlock, left = args.weight.rows - row0, groups = linear_groups(args.weight);
    const __mmask32 rows = left >= kLinearRowBlock ? ~__mmask32(0) : (__mmask32(1) << left) - 1;
    const __mmask16 mask[2] = {__mmask16(rows), __mmask16(rows >> 16)};
    for (int32_t t = 0; t < tokens; ++t) {
      const int64_t of_x = int64_t(token0 + t) * groups + first;
      const float* scales_x = args.x.scales + of_x;
      const int32_t* from = dots_of(t);
      float* sums = acc + t * kLinearRowBlock;
      __m512 y[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      if (first > 0) {
        y[0] = _mm512_load_ps(sums);
        y[1] = _mm512_load_ps(sums + 16);
      }
      for (int32_t i = 0; i < count; ++i, from += kGroupDots) {
        const __m512 scale_x = _mm512_set1_ps(scales_x[i]);
        for (int half = 0; half < 2; ++half) {
          __m512i dot = _mm512_load_si512(from + 16 * half);
          if constexpr (kPlanes == 2) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(from + kTileSums + 16 * half));
          y[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(factors[i].scales[half], scale_x), y[half]);
        }
      }
      const int64_t at = (token0 + t) * args.out_stride + row0;
      for (int half = 0; half < 2; ++half) {
        if (!last) {
          _mm512_store_ps(sums + 16 * half, y[half]);
          continue;
        }
        if (args.bias) y[half] = _mm512_add_ps(y[half], _mm512_maskz_loadu_ps(mask[half], args.bias + row0 + 16 * half));
        if (args.residual) y[half] = _mm512_add_ps(_mm512_maskz_loadu_ps(mask[half], args.residual + at + 16 * half), y[half]);
        _mm512_mask_storeu_ps(args.out + at + 16 * half, mask[half], y[half]);
      }
    }
  }
};

// Row blocks [first, last) with `tokens` tokens from token0 on: whole tiles, or less than one.
template <int kPlanes>
void long_pass(const LinearArgs& args, int32_t first, int32_t last, int32_t token0, int32_t tokens) {
  const LinearWeight& weight = args.weight;
  const int32_t group_size = weight.group_size, groups = linear_groups(weight), parts = group_size / 64;
  const int64_t plane = int64_t(groups) * group_size, stride = plane * kPlanes, header = int64_t(linear_header_bytes(weight));
  const uint8_t* x = args.x.q + token0 * stride;
  constexpr int32_t kStepTokens = 2 / kPlanes * kTileTokens;
  const int32_t steps = (tokens + kStepTokens - 1) / kStepTokens;
  LongPass<kPlanes> pass(args, token0, tokens);
  const uint8_t* group = weight.data + first * int64_t(linear_block_bytes(weight));
  for (int32_t b = first; b < last; ++b) {
    OutAhead ahead(args, b + 1, b + 1 < last, token0, tokens, steps * groups * parts);
    for (int32_t g0 = 0; g0 < groups; g0 += kChunkGroups) {
      const int32_t count = groups - g0 < kChunkGroups ? groups - g0 : kChunkGroups;
      for (int32_t i = 0; i < count; ++i, group += linear_group_bytes(weight)) {
        pass.factors[i] = row_factors(weight, group);
        const int8_t* w = reinterpret_cast<const int8_t*>(group + header);
        for (int32_t s = 0; s < steps; ++s) {
          const uint8_t* x0 = x + s * kStepTokens * stride + int64_t(g0 + i) * group_size;
          // An odd tile, the last one, is multiplied twice.
          const uint8_t* x1 = kPlanes == 2 ? x0 + plane : (s + 1) * kStepTokens <= tokens ? x0 + kTileTokens * stride : x0;
          tile_dots<kPlanes>(x0, x1, stride, w, parts, pass.dots + i * LongPass<kPlanes>::kGroupDots + s * 2 * kTileSums, ahead);
        }
      }
      pass.add(b, g0, count, g0 + count == groups);
    }
  }
}

}  // namespace
}  // namespace hvl

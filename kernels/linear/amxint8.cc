// AMX: dots of 16 tokens x 16 rows x 64 values of K an instruction (tdpbssd, tdpbusd), for as many tokens as make tiles worth while; fewer
// go the way of AVX-512 VNNI (byte_dots.h).
//
// Here: groups of up to 128 values of K. Longer ones, which 8-bit weights of one scale a row have: amx_long_groups.h.
//
// The packed layout is that of a tile of weights already: 16 lines of 4 values of K for 16 rows, 128 bytes apart. Bytes are loaded as they lie,
// nibbles are spread into the same layout once a group and pass, as signed values: no offset has to be taken out again.
//
// Order of the work, for a range of row blocks, as in byte_dots.h: sets of row blocks that stay in the L2 cache; passes of some tokens; row
// blocks; groups, whose weights stay in four tiles while the tokens of the pass go by. Dots go through memory to be scaled and added, while the
// next tile's dots run.
//
// What bounds it (a Xeon server, one thread): a group of 128 keeps the dots of 16 tokens by 32 rows to 4 instructions, 64 cycles. Storing them,
// adding 32 vectors in float32 (80 cycles by themselves), x from the L2 cache (1.5 cycles a line) and out overlap with them only in part: 270
// to 340 cycles, a fifth to a quarter of the tiles' peak, 2 to 3 times what vpdpbusd reaches. Tried and no faster: adding a step or two later,
// adding between dots and stores, loading x a step ahead, all of a group's dots before all of its sums (with eight groups at once: a third slower).
#include "kernels/linear/amx.h"
#include "kernels/linear/amx_long_groups.h"

namespace hvl {
namespace {

constexpr int32_t kPassSteps = 8;  // a step: one plane of a tile of tokens
constexpr int32_t kLeastTokens = 5;
constexpr int32_t kMostShort = 128;

// Vectors of nibbles to bytes, laid out as 8-bit weights are.
HVL_INLINE inline void spread_nibbles(const uint8_t* packed, int32_t vectors, int8_t* out) {
  const __m512i low = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(8);
  for (int32_t j = 0; j < vectors; ++j, packed += 128, out += 256) {
    for (int half = 0; half < 128; half += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(packed + 4096 + half), _MM_HINT_T0);
      const __m512i v = _mm512_load_si512(packed + half);
      _mm512_store_si512(out + half, _mm512_sub_epi8(_mm512_and_si512(v, low), offset));
      _mm512_store_si512(out + 128 + half, _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), offset));
    }
  }
}

HVL_INLINE inline void load_weights(const int8_t* w, int32_t group_size) {
  _tile_loadd(4, w, 128);
  _tile_loadd(5, w + 64, 128);
  if (group_size < 128) return;
  _tile_loadd(6, w + 32 * 64, 128);
  _tile_loadd(7, w + 32 * 64 + 64, 128);
}

// Dots of a step with the loaded weights into sums (tokens, 32). The order matters: each sum is stored behind its own last dot, beside the
// next one's dots; two sums at a time took up to half as long again.
#define HVL_STEP(product)                                   \
  _tile_loadd(2, x, stride);                                \
  if (two) _tile_loadd(3, x + 64, stride);                  \
  _tile_zero(0);                                            \
  product(0, 2, 4);                                         \
  if (two) product(0, 3, 6);                                \
  _tile_stored(0, sums, kLinearRowBlock * sizeof(int32_t)); \
  _tile_zero(1);                                            \
  product(1, 2, 5);                                         \
  if (two) product(1, 3, 7);                                \
  _tile_stored(1, sums + 16, kLinearRowBlock * sizeof(int32_t));
HVL_INLINE inline void tile_step(bool is_unsigned, bool two, const uint8_t* x, int64_t stride, int32_t* sums) {
  if (is_unsigned) {
    HVL_STEP(_tile_dpbusd)
  } else {
    HVL_STEP(_tile_dpbssd)
  }
}
#undef HVL_STEP

// acc (tokens, 32) += dots of a tile of tokens and one group (planes, 16, 32), of hi (or of all of x) and lo. x: of its first token and the group.
template <int kPlanes, bool kZeroPoints>
HVL_INLINE inline void add_dots(const int32_t* dots, RowFactors w, const float* scales_x, const int32_t* sums_x, int64_t groups,
                                int32_t tokens, float* acc) {
  for (int32_t t = 0; t < tokens; ++t) {
    const __m512 scale_x = _mm512_set1_ps(scales_x[t * groups]);
    for (int half = 0; half < 2; ++half) {
      const int64_t at = t * kLinearRowBlock + 16 * half;
      __m512i dot = _mm512_load_si512(dots + at);
      if constexpr (kPlanes == 2) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(dots + kTileSums + at));
      if constexpr (kZeroPoints) dot = _mm512_sub_epi32(dot, _mm512_mullo_epi32(w.zero_points[half], _mm512_set1_epi32(sums_x[t * 2 * groups])));
      const __m512 scale = _mm512_mul_ps(w.scales[half], scale_x);
      _mm512_store_ps(acc + at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, _mm512_load_ps(acc + at)));
    }
  }
}

// Row blocks [first, last) with `tokens` tokens from token0 on: whole tiles, or less than one.
template <int kWeightBits, int kPlanes>
void tile_pass(const LinearArgs& args, int32_t first, int32_t last, int32_t token0, int32_t tokens) {
  const LinearWeight& weight = args.weight;
  const int32_t group_size = weight.group_size, groups = linear_groups(weight), at_once = tokens < kTileTokens ? tokens : kTileTokens;
  const int64_t plane = int64_t(groups) * group_size, stride = plane * kPlanes, header = int64_t(linear_header_bytes(weight));
  const bool two = group_size == 128;
  const uint8_t* x = args.x.q + token0 * stride;
  const int32_t steps = (tokens + kTileTokens - 1) / kTileTokens * kPlanes, vectors = group_size * kWeightBits / 32;
  const auto step_x = [&](int32_t step, int32_t g) HVL_INLINE {
    return x + step / kPlanes * kTileTokens * stride + step % kPlanes * plane + int64_t(g) * group_size;
  };
  alignas(64) int8_t spread[kWeightBits == 4 ? 128 * kLinearRowBlock : 64];
  alignas(64) int32_t dots[2][kPlanes * kTileSums];
  alignas(64) float acc[kPassSteps / kPlanes * kTileSums];
  const uint8_t* group = weight.data + first * int64_t(linear_block_bytes(weight));
  int slot = 0;
  for (int32_t b = first; b < last; ++b) {
    OutAhead ahead(args, b + 1, b + 1 < last, token0, tokens, steps * groups);
    memset(acc, 0, size_t(tokens) * kLinearRowBlock * sizeof(float));
    // The dots of the tile before, which are added while this one's run.
    const float* scales_before = nullptr;
    const int32_t* sums_before = nullptr;
    float* acc_before = acc;
    RowFactors factors = {};
    const auto add_before = [&]() HVL_INLINE {
      const int32_t* from = dots[slot ^ 1];
      if (weight.zero_points) {
        add_dots<kPlanes, true>(from, factors, scales_before, sums_before, groups, at_once, acc_before);
      } else {
        add_dots<kPlanes, false>(from, factors, scales_before, sums_before, groups, at_once, acc_before);
      }
    };
    for (int32_t g = 0; g < groups; ++g, group += linear_group_bytes(weight)) {
      const int8_t* w = reinterpret_cast<const int8_t*>(group + header);
      if constexpr (kWeightBits == 4) {
        spread_nibbles(group + header, vectors, spread);
        w = spread;
      }
      load_weights(w, group_size);
      for (int32_t step = 0; step < steps; ++step) {
        tile_step(kPlanes == 2 && step % 2 == 1, two, step_x(step, g), stride, dots[slot] + step % kPlanes * kTileSums);
        ahead.some();
        if (step % kPlanes != kPlanes - 1) continue;
        if (scales_before) add_before();
        if (step == kPlanes - 1) factors = row_factors(weight, group);
        const int32_t t = step / kPlanes * kTileTokens;
        const int64_t of_x = int64_t(token0 + t) * groups + g;
        scales_before = args.x.scales + of_x;
        sums_before = args.x.sums + 2 * of_x;
        acc_before = acc + t * kLinearRowBlock;
        slot ^= 1;
      }
    }
    add_before();
    store_block<Avx512Vnni<1>>(args, b, token0, tokens, acc);
  }
}

using RunPass = void (*)(const LinearArgs& args, int32_t first, int32_t last, int32_t token0, int32_t tokens);

// Whole tiles of tokens in passes of at most `most` tiles, as equal as they can be, then the tokens that are left.
void run_passes(const LinearArgs& args, int32_t begin, int32_t end, RunPass run_pass, int32_t most, const TileConfig& whole, const TileConfig& rest) {
  const int64_t block_bytes = int64_t(linear_block_bytes(args.weight));
  const int64_t blocks = end - begin, fitting = kSetBytes / block_bytes > 0 ? kSetBytes / block_bytes : 1;
  const int64_t sets = (blocks + fitting - 1) / fitting;
  const int32_t tokens = args.x.rows, tiles = tokens / kTileTokens, left = tokens % kTileTokens;
  const int32_t passes = (tiles + most - 1) / most;
  for (int64_t s = 0; s < sets; ++s) {
    const int32_t first = begin + int32_t(blocks * s / sets), last = begin + int32_t(blocks * (s + 1) / sets);
    if (passes > 0) whole.load();
    for (int32_t i = 0; i < passes; ++i) {
      const int32_t token = tiles * i / passes * kTileTokens;
      run_pass(args, first, last, token, tiles * (i + 1) / passes * kTileTokens - token);
    }
    if (left == 0) continue;
    rest.load();
    run_pass(args, first, last, tokens - left, left);
  }
  _tile_release();
}

template <int kWeightBits, int kPlanes>
void run_tiles(const LinearArgs& args, int32_t begin, int32_t end) {
  const int32_t group_size = args.weight.group_size, left = args.x.rows % kTileTokens;
  if (group_size > kMostShort) {
    if constexpr (kWeightBits == 8) {
      run_passes(args, begin, end, long_pass<kPlanes>, kLongPassTokens / kTileTokens, {4, 6, kTileTokens, 64}, {4, 6, left, 64});
    }
    return;
  }
  const int32_t along_k = group_size < 64 ? group_size : 64;
  run_passes(args, begin, end, tile_pass<kWeightBits, kPlanes>, kPassSteps / kPlanes, {2, 4, kTileTokens, along_k}, {2, 4, left, along_k});
}

}  // namespace

void linear_amxint8(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.x.rows < kLeastTokens) return run_linear<Avx512Vnni, Avx512Vnni>(args, begin, end);
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run_tiles<4, 2>(args, begin, end);
    return run_tiles<4, 1>(args, begin, end);
  }
  if (args.x.bits == 16) return run_tiles<8, 2>(args, begin, end);
  run_tiles<8, 1>(args, begin, end);
}

}  // namespace hvl

// AVX2: 8 output rows a register.
//
// W4: vpmaddubsw on v = w + 8 in 0..15, whose pair sums fit 16 bits for a while (hi: 2 * 15 * 128, lo: 2 * 15 * 255), widened to
// int32 by vpmaddwd, which also multiplies the high plane by 256; then - 8 * sum x.
// W8: pair sums of bytes would saturate, so both sides are widened to 16 bits and multiplied by vpmaddwd.
#include <immintrin.h>
#include <string.h>

#include "kernels/linear/linear.h"

namespace hvl {
namespace {

constexpr int kMaxTokens = 4;
constexpr int kMaxGroup = 128;
constexpr int kOctets = kLinearRowBlock / 8;

// One row block of one call, the same for all token tiles.
struct Block {
  const uint8_t* data;
  int32_t row0;
  int32_t rows;  // 1 .. 32, the rest is padding
  int32_t groups;
  int32_t group_size;
  int32_t padded_cols;  // bytes of one plane of x
};

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

inline __m256i broadcast4(const uint8_t* p) {
  int32_t word;
  memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}

inline __m256i broadcast8(const int16_t* p) {
  int64_t word;
  memcpy(&word, p, sizeof word);
  return _mm256_set1_epi64x(word);
}

// The exact dots of 8 rows with kTokens tokens over one group of 4-bit weights. w: the octet's 32 bytes in the first vector.
template <int kXBits, int kTokens>
inline void dots4(const uint8_t* w, const uint8_t* x, int64_t row_bytes, int32_t plane, int32_t group_size, __m256i* dot) {
  const __m256i nibbles = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1), high_unit = _mm256_set1_epi16(kXBits == 16 ? 256 : 1);
  for (int t = 0; t < kTokens; ++t) dot[t] = _mm256_setzero_si256();
  for (int32_t k = 0; k < group_size; k += 16) {
    const __m256i first = load(w), second = load(w + 128);
    const __m256i v[4] = {_mm256_and_si256(first, nibbles), _mm256_and_si256(_mm256_srli_epi16(first, 4), nibbles),
                          _mm256_and_si256(second, nibbles), _mm256_and_si256(_mm256_srli_epi16(second, 4), nibbles)};
    w += 256;
    for (int t = 0; t < kTokens; ++t) {
      const uint8_t* xt = x + t * row_bytes + k;
      __m256i high = _mm256_maddubs_epi16(v[0], broadcast4(xt));
      for (int i = 1; i < 4; ++i) high = _mm256_add_epi16(high, _mm256_maddubs_epi16(v[i], broadcast4(xt + 4 * i)));
      dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(high, high_unit));
      if constexpr (kXBits == 16) {
        __m256i low = _mm256_maddubs_epi16(broadcast4(xt + plane), v[0]);  // four sums: at most 30600
        for (int i = 1; i < 4; ++i) low = _mm256_add_epi16(low, _mm256_maddubs_epi16(broadcast4(xt + plane + 4 * i), v[i]));
        dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(low, ones));
      }
    }
  }
}

// The same for 8-bit weights; x is (kTokens, kMaxGroup) int16.
template <int kTokens>
inline void dots8(const uint8_t* w, const int16_t* x, int32_t group_size, __m256i* dot) {
  __m256i rows03[kTokens], rows47[kTokens];  // two lanes a row: k = 0, 1 and k = 2, 3
  for (int t = 0; t < kTokens; ++t) rows03[t] = rows47[t] = _mm256_setzero_si256();
  for (int32_t k = 0; k < group_size; k += 4, w += 128) {
    const __m256i w03 = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i w47 = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w) + 1));
    for (int t = 0; t < kTokens; ++t) {
      const __m256i xt = broadcast8(x + t * kMaxGroup + k);
      rows03[t] = _mm256_add_epi32(rows03[t], _mm256_madd_epi16(w03, xt));
      rows47[t] = _mm256_add_epi32(rows47[t], _mm256_madd_epi16(w47, xt));
    }
  }
  // hadd leaves rows 0 1 4 5 | 2 3 6 7
  for (int t = 0; t < kTokens; ++t) {
    dot[t] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(rows03[t], rows47[t]), _MM_SHUFFLE(3, 1, 2, 0));
  }
}

// One token's group of x as int16.
template <int kXBits>
inline void widen_x(const uint8_t* x, int32_t plane, int32_t group_size, int16_t* out) {
  for (int32_t k = 0; k < group_size; k += 16) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + k));
    __m128i* to = reinterpret_cast<__m128i*>(out + k);
    if constexpr (kXBits == 16) {
      const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + plane + k));
      _mm_store_si128(to, _mm_unpacklo_epi8(low, first));
      _mm_store_si128(to + 1, _mm_unpackhi_epi8(low, first));
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(first));
    }
  }
}

inline __m256 load_scales(const uint8_t* p, int scale_bits, int octet) {
  if (scale_bits == 16) return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p) + octet));
  return _mm256_load_ps(reinterpret_cast<const float*>(p) + 8 * octet);
}

// Bias, residual and the store of one token's block of 32.
inline void store_row(const LinearArgs& args, const Block& block, int32_t token, const float* acc) {
  const int64_t at = int64_t(token) * args.out_stride + block.row0;
  const float* bias = args.bias ? args.bias + block.row0 : nullptr;
  const float* residual = args.residual ? args.residual + at : nullptr;
  float* out = args.out + at;
  int32_t r = 0;
  for (; r + 8 <= block.rows; r += 8) {
    __m256 y = _mm256_load_ps(acc + r);
    if (bias) y = _mm256_add_ps(y, _mm256_loadu_ps(bias + r));
    if (residual) y = _mm256_add_ps(_mm256_loadu_ps(residual + r), y);
    _mm256_storeu_ps(out + r, y);
  }
  for (; r < block.rows; ++r) {
    float y = acc[r];
    if (bias) y = y + bias[r];
    if (residual) y = residual[r] + y;
    out[r] = y;
  }
}

template <int kWeightBits, int kXBits, int kTokens>
void tile(const LinearArgs& args, const Block& block, int32_t token0) {
  constexpr int kPrefetchBytes = 4096;
  const int32_t groups = block.groups, group_size = block.group_size, plane = block.padded_cols;
  const int64_t row_bytes = int64_t(plane) * (kXBits / 8);
  const int32_t scale_bytes = 4 * args.weight.scale_bits, value_bytes = 4 * group_size * kWeightBits;
  const uint8_t* x = args.x.q + token0 * row_bytes;
  const float* scale_x = args.x.scales + int64_t(token0) * groups;
  const int32_t* sums = args.x.sums + int64_t(token0) * groups * 2;
  const uint8_t* w = block.data;
  alignas(32) float acc[kTokens][kLinearRowBlock] = {};
  alignas(32) int16_t wide[kTokens * kMaxGroup];

  for (int32_t g = 0; g < groups; ++g, x += group_size) {
    const uint8_t* scales = w;
    w += scale_bytes;
    if constexpr (kWeightBits == 8) {
      for (int t = 0; t < kTokens; ++t) widen_x<kXBits>(x + t * row_bytes, plane, group_size, wide + t * kMaxGroup);
    }
    if constexpr (kTokens == 1) {
      for (int32_t i = 0; i < value_bytes; i += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(w + i + kPrefetchBytes), _MM_HINT_T0);
      }
    }
    // The group's weights are in the L1 cache after the first octet.
    for (int octet = 0; octet < kOctets; ++octet) {
      __m256i dot[kTokens];
      if constexpr (kWeightBits == 4) {
        dots4<kXBits, kTokens>(w + 32 * octet, x, row_bytes, plane, group_size, dot);
      } else {
        dots8<kTokens>(w + 32 * octet, wide, group_size, dot);
      }
      const __m256 scale_w = load_scales(scales, args.weight.scale_bits, octet);
      for (int t = 0; t < kTokens; ++t) {
        const int64_t at = int64_t(t) * groups + g;
        if constexpr (kWeightBits == 4) dot[t] = _mm256_sub_epi32(dot[t], _mm256_set1_epi32(8 * sums[2 * at]));
        const __m256 scale = _mm256_mul_ps(scale_w, _mm256_set1_ps(scale_x[at]));
        float* to = acc[t] + 8 * octet;
        _mm256_store_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[t]), scale, _mm256_load_ps(to)));
      }
    }
    w += value_bytes;
  }
  for (int t = 0; t < kTokens; ++t) store_row(args, block, token0 + t, acc[t]);
}

template <int kWeightBits, int kXBits>
void run(const LinearArgs& args, int32_t begin, int32_t end) {
  const LinearWeight& weight = args.weight;
  const size_t block_bytes = linear_block_bytes(weight);
  const int32_t groups = linear_groups(weight), tokens = args.x.rows;
  const int32_t tiles = (tokens + kMaxTokens - 1) / kMaxTokens;
  for (int32_t b = begin; b < end; ++b) {
    const int32_t row0 = b * kLinearRowBlock;
    const int32_t rows = weight.rows - row0 < kLinearRowBlock ? weight.rows - row0 : kLinearRowBlock;
    const Block block = {weight.data + size_t(b) * block_bytes, row0, rows, groups, weight.group_size, groups * weight.group_size};
    for (int32_t i = 0, token = 0; i < tiles; ++i) {
      const int32_t next = int32_t(int64_t(tokens) * (i + 1) / tiles);
      switch (next - token) {
        case 1: tile<kWeightBits, kXBits, 1>(args, block, token); break;
        case 2: tile<kWeightBits, kXBits, 2>(args, block, token); break;
        case 3: tile<kWeightBits, kXBits, 3>(args, block, token); break;
        default: tile<kWeightBits, kXBits, 4>(args, block, token); break;
      }
      token = next;
    }
  }
}

}  // namespace

void linear_avx2(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.weight.bits == 4) {
    if (args.x.bits == 16) return run<4, 16>(args, begin, end);
    return run<4, 8>(args, begin, end);
  }
  if (args.x.bits == 16) return run<8, 16>(args, begin, end);
  run<8, 8>(args, begin, end);
}

}  // namespace hvl

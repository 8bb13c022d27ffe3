#include "kernels/linear/pack.h"

#include <string.h>

#include <algorithm>

#include "kernels/linear/f16.h"

namespace hvl {
namespace {

// The packed weight as 32-bit words: word (vector j, row r) of a group holds the row's next 8 (4 bit) or 4 (8 bit) values of K.
int32_t values_per_word(const LinearWeight& w) { return 32 / w.bits; }

// Eight nibbles in K order -> byte b = nibble b below nibble 4 + b.
uint32_t interleave_nibbles(uint32_t word) {
  const auto spread = [](uint32_t v) {
    v = (v | v << 8) & 0x00ff00ffu;
    return (v | v << 4) & 0x0f0f0f0fu;
  };
  return spread(word & 0xffffu) | spread(word >> 16) << 4;
}

// A stored word (offset binary, K order) as the kernels want it: nibbles keep the offset, bytes drop it.
uint32_t packed_word(uint32_t stored, int32_t bits) { return bits == 4 ? interleave_nibbles(stored) : stored ^ 0x80808080u; }

// Offset binary of zero weights: what a word beyond the row or the columns holds.
uint32_t zero_word(int32_t bits) { return bits == 4 ? 0x88888888u : 0x80808080u; }

void pack_zero_points(const int8_t* zero_points, int32_t scale_cols, const LinearWeight& w, int32_t row0, int32_t group, uint8_t* dst) {
  for (int32_t r = 0; r < kLinearRowBlock; ++r) {
    const int32_t row = row0 + r;
    const int16_t zero_point = row < w.rows ? zero_points[int64_t(row) * scale_cols + (scale_cols == 1 ? 0 : group)] : 0;
    memcpy(dst + 2 * r, &zero_point, sizeof zero_point);
  }
}

bool pack_scales(const float* scales, int32_t scale_cols, const LinearWeight& w, int32_t row0, int32_t group, uint8_t* dst) {
  bool exact = true;
  for (int32_t r = 0; r < kLinearRowBlock; ++r) {
    const int32_t row = row0 + r;
    const float scale = row < w.rows ? scales[int64_t(row) * scale_cols + (scale_cols == 1 ? 0 : group)] : 0.0f;
    if (w.scale_bits == 16) {
      uint16_t half;
      exact = f16_from_f32_exact(scale, &half) && exact;
      memcpy(dst + 2 * r, &half, sizeof half);
    } else {
      memcpy(dst + 4 * r, &scale, sizeof scale);
    }
  }
  return exact;
}

// stored_word(row, index): the row's word `index` in offset binary, zero weights beyond its columns.
template <typename StoredWord>
bool pack_blocks(const StoredWord& stored_word, const float* scales, const int8_t* zero_points, int32_t scale_cols, const LinearWeight& w, uint8_t* dst,
                 int32_t block_begin, int32_t block_end) {
  const int32_t groups = linear_groups(w);
  const int32_t group_words = w.group_size / values_per_word(w);
  bool exact = true;
  for (int32_t block = block_begin; block < block_end; ++block) {
    const int32_t row0 = block * kLinearRowBlock;
    const int32_t rows = std::min(kLinearRowBlock, w.rows - row0);
    for (int32_t group = 0; group < groups; ++group) {
      uint8_t* at = dst + size_t(block) * linear_block_bytes(w) + size_t(group) * linear_group_bytes(w);
      exact = pack_scales(scales, scale_cols, w, row0, group, at) && exact;
      if (w.zero_points) pack_zero_points(zero_points, scale_cols, w, row0, group, at + linear_scale_bytes(w));
      at += linear_header_bytes(w);
      // A group (at most 512 * 32 bytes) stays in the L1 cache while the rows are read one after another.
      for (int32_t r = 0; r < kLinearRowBlock; ++r) {
        for (int32_t j = 0; j < group_words; ++j) {
          const uint32_t stored = r < rows ? stored_word(row0 + r, group * group_words + j) : zero_word(w.bits);
          const uint32_t word = packed_word(stored, w.bits);
          memcpy(at + size_t(j) * kLinearRowBlock * 4 + 4 * r, &word, sizeof word);
        }
      }
    }
  }
  return exact;
}

}  // namespace

bool scales_fit_f16(const float* scales, int64_t n) {
  uint16_t half;
  for (int64_t i = 0; i < n; ++i) {
    if (!f16_from_f32_exact(scales[i], &half)) return false;
  }
  return true;
}

bool pack_linear(const int8_t* q, const float* scales, const int8_t* zero_points, int32_t scale_cols, const LinearWeight& layout, uint8_t* dst,
                 int32_t block_begin, int32_t block_end) {
  const int32_t bits = layout.bits, per_word = values_per_word(layout), cols = layout.cols;
  const uint32_t mask = bits == 4 ? 0xfu : 0xffu, offset = bits == 4 ? 8 : 128;
  const auto word = [=](int32_t row, int32_t index) {
    uint32_t stored = 0;
    for (int32_t i = 0; i < per_word; ++i) {
      const int32_t k = index * per_word + i;
      const int32_t value = k < cols ? q[int64_t(row) * cols + k] : 0;
      stored |= ((uint32_t(value) + offset) & mask) << i * bits;
    }
    return stored;
  };
  return pack_blocks(word, scales, zero_points, scale_cols, layout, dst, block_begin, block_end);
}

bool pack_linear_words(const int32_t* words, int64_t words_per_row, const float* scales, const int8_t* zero_points, int32_t scale_cols,
                       const LinearWeight& layout, uint8_t* dst, int32_t block_begin, int32_t block_end) {
  const int32_t per_word = values_per_word(layout), bits = layout.bits;
  const int32_t full_words = layout.cols / per_word, tail = layout.cols % per_word;
  // The file's filling of the last word is not a zero weight, so it is replaced.
  const uint32_t tail_mask = (1u << tail * bits) - 1;
  const uint32_t zero = zero_word(bits);
  const auto word = [=](int32_t row, int32_t index) {
    if (index < full_words) return uint32_t(words[row * words_per_row + index]);
    if (index > full_words || tail == 0) return zero;
    return (uint32_t(words[row * words_per_row + index]) & tail_mask) | (zero & ~tail_mask);
  };
  return pack_blocks(word, scales, zero_points, scale_cols, layout, dst, block_begin, block_end);
}

void unpack_row(const LinearWeight& w, int32_t row, int8_t* q, float* scales, int8_t* zero_points) {
  const uint8_t* block = w.data + size_t(row / kLinearRowBlock) * linear_block_bytes(w);
  const int32_t r = row % kLinearRowBlock;
  for (int32_t g = 0; g < linear_groups(w); ++g) {
    const uint8_t* group = block + size_t(g) * linear_group_bytes(w);
    if (w.scale_bits == 16) {
      uint16_t half;
      memcpy(&half, group + 2 * r, sizeof half);
      scales[g] = f32_from_f16(half);
    } else {
      memcpy(&scales[g], group + 4 * r, sizeof(float));
    }
    int16_t zero_point = 0;
    if (w.zero_points) memcpy(&zero_point, group + linear_scale_bytes(w) + 2 * r, sizeof zero_point);
    zero_points[g] = int8_t(zero_point);
    const uint8_t* values = group + linear_header_bytes(w);
    for (int32_t i = 0; i < w.group_size && g * w.group_size + i < w.cols; ++i) {
      int8_t& value = q[g * w.group_size + i];
      if (w.bits == 4) {
        const uint8_t byte = values[i / 8 * 128 + 4 * r + i % 4];
        value = int8_t((i % 8 < 4 ? byte & 15 : byte >> 4) - 8);
      } else {
        value = int8_t(values[i / 4 * 128 + 4 * r + i % 4]);
      }
    }
  }
}

}  // namespace hvl

// Descriptors of the NPU's user DMA: eight words in memory, of which a block without strides uses four. Layouts as Apache TVM (runtime/hexagon,
// Apache-2.0) and hexagon-mlir (BSD-3-Clause) write them, both after Qualcomm's "Hexagon User DMA Specification" 80-V9418-29. Never run: QEMU has
// no user DMA.
#pragma once

#include <stdint.h>

#include <array>

namespace hvl {

struct alignas(32) DmaDescriptor {
  std::array<uint32_t, 8> words;

  // The engine sets it when all bytes have landed.
  bool done() const { return (*static_cast<const volatile uint32_t*>(&words[1]) >> 31) != 0; }
};

// Rows with strides in one descriptor, and how large its fields are.
enum class DmaGeneration {
  kNarrow,  // up to v73: 16 bits each
  kWide,    // from v75 on: 24 bits, rows 16
};

inline constexpr uint32_t kMostDmaBytes = (1u << 24) - 128;  // without strides; a multiple of vectors

constexpr bool fits_descriptor(DmaGeneration generation, uint64_t rows, uint64_t row_bytes, uint64_t to_stride, uint64_t from_stride) {
  const uint64_t most = generation == DmaGeneration::kWide ? (1u << 24) - 1 : (1u << 16) - 1;
  return rows < (1u << 16) && row_bytes <= most && to_stride <= most && from_stride <= most;
}

// No cache is bypassed, so that what a core wrote just before is seen; no order among descriptors; the next one is linked by the instruction.
constexpr DmaDescriptor linear_descriptor(uint32_t to, uint32_t from, uint32_t bytes) { return {{0, bytes, from, to, 0, 0, 0, 0}}; }

constexpr DmaDescriptor strided_descriptor(DmaGeneration generation, uint32_t to, uint32_t from, uint32_t rows, uint32_t row_bytes, uint32_t to_stride,
                                           uint32_t from_stride) {
  constexpr uint32_t kStrided = 1u << 24;
  if (generation == DmaGeneration::kNarrow) {
    return {{0, kStrided, from, to, 0, row_bytes | rows << 16, from_stride | to_stride << 16, 0}};
  }
  return {{0, kStrided | to_stride, from, to, 9, row_bytes | rows << 24, rows >> 8 | from_stride << 8, 0}};
}

static_assert(strided_descriptor(DmaGeneration::kNarrow, 0x1000, 0x2000, 3, 0x40, 0x80, 0x100).words ==
              std::array<uint32_t, 8>{0, 0x01000000, 0x2000, 0x1000, 0, 0x00030040, 0x00800100, 0});
static_assert(strided_descriptor(DmaGeneration::kWide, 0x1000, 0x2000, 0x203, 0x40, 0x80, 0x10040).words ==
              std::array<uint32_t, 8>{0, 0x01000080, 0x2000, 0x1000, 9, 0x03000040, 0x01004002, 0});
static_assert(fits_descriptor(DmaGeneration::kWide, 9, 65536, 65536, 65536) && !fits_descriptor(DmaGeneration::kNarrow, 9, 65536, 65536, 65536));

}  // namespace hvl

// The dots of one group in HVX registers (hexagon_dots.h has the arithmetic). Kernels scale and add them up from there.
//
// vrmpy multiplies 32 rows by 4 bytes of x at once, unsigned weights by either plane of x; two of them fit into a packet, so that 128
// multiplications of 16 bits a packet are the most there can be. Weights are made unsigned: 4 bits are stored plus 8, and 8 bits get their
// highest bit flipped, which adds 128; what this adds to the dots is taken off where the accumulators start.
#pragma once

#include <hexagon_protos.h>
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stdint.h>

namespace hvl::hexagon {

using Vector = HVX_Vector;
using EightBytes = int64_t __attribute__((may_alias));

// Unsigned weights of k .. k+3 and of k+4 .. k+7, from the one vector or the two at `w`.
template <int kBits>
__attribute__((always_inline)) inline void unsigned_weights(const Vector* w, Vector& first, Vector& second) {
  if constexpr (kBits == 4) {
    first = Q6_V_vand_VV(w[0], Q6_V_vsplat_R(0x0f0f0f0f));
    second = Q6_Vub_vlsr_VubR(w[0], 4);
  } else {
    first = Q6_V_vxor_VV(w[0], Q6_V_vsplat_R(0x80808080));
    second = Q6_V_vxor_VV(w[1], Q6_V_vsplat_R(0x80808080));
  }
}

// 8 vectors in bytes, as a number that the compiler does not know. An address is a register and -8 to 7 vectors; pointers eight vectors
// apart stay in registers of their own, where otherwise an addition would come with almost every load.
__attribute__((always_inline)) inline int32_t eight_vectors() {
  int32_t bytes = 8 * sizeof(Vector);
  asm("" : "+r"(bytes));
  return bytes;
}

// dots[block][token] of one group for kBlocks row blocks and kTokens tokens. kGroup is the group size up to 128, and 0 for multiples of
// that: known at compile time, a group is one stretch of code, which the compiler overlaps with the next group's.
template <int kBits, int kGroup, int kBlocks, int kTokens>
__attribute__((always_inline)) inline void group_dots(const uint8_t* values,  // of the group in the first block; 128-byte aligned
                                                      int32_t block_stride,   // bytes, a multiple of 128
                                                      const uint8_t* x,       // `hi` of the group in the first token; 8-byte aligned
                                                      int32_t padded_cols,    // bytes from `hi` to `lo`
                                                      const int32_t* sums,    // of the group in the first token
                                                      int32_t groups,         // sums from one token to the next
                                                      int32_t group_size, Vector (&dots)[kBlocks][kTokens]) {
  constexpr int kChunk = kGroup ? kGroup : 128;
  constexpr int kOffset = kBits == 4 ? 8 : 128;
  Vector hi[kBlocks][kTokens], lo[kBlocks][kTokens];
  const uint8_t* w[kBlocks];
  const int32_t eight = eight_vectors();
  for (int b = 0; b < kBlocks; ++b) {
    w[b] = values + b * block_stride;
    for (int t = 0; t < kTokens; ++t) {
      hi[b][t] = Q6_V_vzero();
      lo[b][t] = Q6_V_vsplat_R(-kOffset * sums[t * groups]);
    }
  }
  const auto chunk = [&](const uint8_t* x) __attribute__((always_inline)) {
#pragma unroll
    for (int k = 0; k < kChunk; k += 8) {
      constexpr int kVectors = kBits / 4;
      Vector first[kBlocks], second[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        const int vector = k / 8 * kVectors % 8;
        unsigned_weights<kBits>(reinterpret_cast<const Vector*>(w[b]) + vector, first[b], second[b]);
        if (vector + kVectors == 8) w[b] += eight;
      }
      for (int t = 0; t < kTokens; ++t) {
        const int64_t x_hi = *reinterpret_cast<const EightBytes*>(x + t * 2 * padded_cols + k);
        const int64_t x_lo = *reinterpret_cast<const EightBytes*>(x + t * 2 * padded_cols + padded_cols + k);
        for (int b = 0; b < kBlocks; ++b) {
          hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], first[b], int32_t(x_hi));
          lo[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[b][t], first[b], int32_t(x_lo));
          hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], second[b], int32_t(x_hi >> 32));
          lo[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[b][t], second[b], int32_t(x_lo >> 32));
        }
      }
    }
  };
  if constexpr (kGroup) {
    chunk(x);
  } else {
    for (int32_t k = 0; k < group_size; k += kChunk) chunk(x + k);
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_Vw_vaslacc_VwVwR(lo[b][t], hi[b][t], 8);
  }
}

}  // namespace hvl::hexagon

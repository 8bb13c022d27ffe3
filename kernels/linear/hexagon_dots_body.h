// The dots of one group in HVX registers (hexagon_dots.h has the arithmetic). Kernels scale and add them up from there.
//
// vrmpy multiplies 32 rows by 4 bytes of x at once, unsigned weights by a plane of x; two of them fit into a packet, so that 128
// multiplications of 16 bits a packet, or 256 of 8 bits, are the most there can be. Weights are made unsigned: 4 bits are stored plus 8, and
// 8 bits get their highest bit flipped, which adds 128; what this adds to the dots is taken off where the accumulators start.
#pragma once

#include <hexagon_protos.h>
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stdint.h>

namespace hvl::hexagon {

using Vector = HVX_Vector;
using UnalignedVector = HVX_UVector;
using EightBytes = int64_t __attribute__((may_alias));

// What is added to a weight of kBits bits.
template <int kBits>
inline constexpr int32_t kWeightOffset = kBits == 4 ? 8 : 128;

// Vector `i` from `w` on. (A template's type argument loses the alignment of UnalignedVector.)
template <bool kAligned>
__attribute__((always_inline)) inline Vector load_vector(const uint8_t* w, int i) {
  return kAligned ? reinterpret_cast<const Vector*>(w)[i] : reinterpret_cast<const UnalignedVector*>(w)[i];
}

// Unsigned weights of k .. k+3 and of k+4 .. k+7, from vector `i` from `w` on, or from it and the next.
template <int kBits, bool kAligned>
__attribute__((always_inline)) inline void unsigned_weights(const uint8_t* w, int i, Vector& first, Vector& second) {
  if constexpr (kBits == 4) {
    const Vector both = load_vector<kAligned>(w, i);
    first = Q6_V_vand_VV(both, Q6_V_vsplat_R(0x0f0f0f0f));
    second = Q6_Vub_vlsr_VubR(both, 4);
  } else {
    first = Q6_V_vxor_VV(load_vector<kAligned>(w, i), Q6_V_vsplat_R(0x80808080));
    second = Q6_V_vxor_VV(load_vector<kAligned>(w, i + 1), Q6_V_vsplat_R(0x80808080));
  }
}

// 8 vectors in bytes, as a number that the compiler does not know. An address is a register and -8 to 7 vectors; pointers eight vectors
// apart stay in registers of their own, where otherwise an addition would come with almost every load.
__attribute__((always_inline)) inline int32_t eight_vectors() {
  int32_t bytes = 8 * sizeof(Vector);
  asm("" : "+r"(bytes));
  return bytes;
}

// Where a group's operands are.
struct GroupOperands {
  const uint8_t* values;  // of the group in the first block
  int32_t block_stride;   // bytes from one block to the next
  const uint8_t* x;       // of the group in the first token, its first plane; 8-byte aligned
  int32_t plane_stride;   // bytes from one plane to the next
  int32_t group_size;
};

// Adds the dots of one group for kBlocks row blocks and kTokens tokens to dots[block][token], which start as -offset times the sum of the
// token's values. kPlanes: bytes of x. kChunk: how many k are one stretch of code; kOne: a group is one chunk, so that the compiler overlaps
// it with what comes before and after.
template <int kBits, int kPlanes, int kChunk, bool kOne, int kBlocks, int kTokens, bool kAligned>
__attribute__((always_inline)) inline void add_group_dots(const GroupOperands& of, Vector (&dots)[kBlocks][kTokens]) {
  Vector hi[kBlocks][kTokens];
  const uint8_t* w[kBlocks];
  const int32_t eight = eight_vectors();
  for (int b = 0; b < kBlocks; ++b) {
    w[b] = of.values + b * of.block_stride;
    for (int t = 0; t < kTokens; ++t) hi[b][t] = Q6_V_vzero();
  }
  const auto chunk = [&](const uint8_t* x) __attribute__((always_inline)) {
#pragma unroll
    for (int k = 0; k < kChunk; k += 8) {
      constexpr int kVectors = kBits / 4;
      Vector first[kBlocks], second[kBlocks];
      for (int b = 0; b < kBlocks; ++b) {
        const int vector = k / 8 * kVectors % 8;
        unsigned_weights<kBits, kAligned>(w[b], vector, first[b], second[b]);
        if (vector + kVectors == 8 || k + 8 == kChunk) w[b] += vector + kVectors == 8 ? eight : (vector + kVectors) * int32_t(sizeof(Vector));
      }
      for (int t = 0; t < kTokens; ++t) {
        const uint8_t* at = x + t * kPlanes * of.plane_stride + k;
        const int64_t x_first = *reinterpret_cast<const EightBytes*>(at);
        if constexpr (kPlanes == 1) {
          for (int b = 0; b < kBlocks; ++b) {
            dots[b][t] = Q6_Vw_vrmpyacc_VwVubRb(dots[b][t], first[b], int32_t(x_first));
            dots[b][t] = Q6_Vw_vrmpyacc_VwVubRb(dots[b][t], second[b], int32_t(x_first >> 32));
          }
        } else {
          const int64_t x_low = *reinterpret_cast<const EightBytes*>(at + of.plane_stride);
          for (int b = 0; b < kBlocks; ++b) {
            hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], first[b], int32_t(x_first));
            dots[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(dots[b][t], first[b], int32_t(x_low));
            hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], second[b], int32_t(x_first >> 32));
            dots[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(dots[b][t], second[b], int32_t(x_low >> 32));
          }
        }
      }
    }
  };
  if constexpr (kOne) {
    chunk(of.x);
  } else {
    for (int32_t k = 0; k < of.group_size; k += kChunk) chunk(of.x + k);
  }
  if constexpr (kPlanes == 2) {
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_Vw_vaslacc_VwVwR(dots[b][t], hi[b][t], 8);
    }
  }
}

}  // namespace hvl::hexagon

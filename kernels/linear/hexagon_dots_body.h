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
using EightBytes = int64_t __attribute__((may_alias));

// What is added to a weight of kBits bits.
template <int kBits>
inline constexpr int32_t kWeightOffset = kBits == 4 ? 8 : 128;

// The same value, of which the compiler knows nothing. It would reach the addresses of unrolled loops from fewer pointers, and add numbers to
// them again and again. Not for loops: code is not moved across.
template <class T>
__attribute__((always_inline)) inline T opaque(T value) {
  asm("" : "+r"(value));
  return value;
}

// Where a group's operands are.
template <int kPlanes, int kBlocks, int kTokens>
struct GroupOperands {
  const uint8_t* values[kBlocks];      // of the group in each block
  const uint8_t* x[kTokens][kPlanes];  // of the group in each token's planes; 8-byte aligned
};

// Adds the dots of kColumns columns to the high and low parts. kFresh: high parts are written first. eight: 8 * 128,
// opaque.
template <int kBits, int kColumns, bool kFresh, int kPlanes, int kBlocks, int kTokens>
__attribute__((always_inline)) inline void add_columns(const GroupOperands<kPlanes, kBlocks, kTokens>& of, int32_t eight,
                                                       Vector (&high)[kBlocks][kTokens], Vector (&low)[kBlocks][kTokens]) {
  // An address is a register and -8 to 7 vectors, which makes a register for 16 vectors.
  const uint8_t* middle[kBlocks];
  for (int b = 0; b < kBlocks; ++b) middle[b] = of.values[b] + eight;
  const auto values = [&](int b, int i) __attribute__((always_inline)) -> Vector {
    if (i > 0 && i % 16 == 0) middle[b] += 2 * eight;
    return reinterpret_cast<const HVX_UVector*>(middle[b])[i % 16 - 8];
  };
#pragma unroll
  for (int i = 0; i < kColumns / 8; ++i) {
    Vector first[kBlocks], second[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      if constexpr (kBits == 4) {
        const Vector both = values(b, i);
        first[b] = Q6_V_vand_VV(both, Q6_V_vsplat_R(0x0f0f0f0f));
        second[b] = Q6_Vub_vlsr_VubR(both, 4);
      } else {
        first[b] = Q6_V_vxor_VV(values(b, 2 * i), Q6_V_vsplat_R(0x80808080));
        second[b] = Q6_V_vxor_VV(values(b, 2 * i + 1), Q6_V_vsplat_R(0x80808080));
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      const int64_t x_high = reinterpret_cast<const EightBytes*>(of.x[t][0])[i];
      for (int b = 0; b < kBlocks; ++b) {
        Vector& sum = high[b][t];
        sum = kFresh && i == 0 ? Q6_Vw_vrmpy_VubRb(first[b], int32_t(x_high)) : Q6_Vw_vrmpyacc_VwVubRb(sum, first[b], int32_t(x_high));
        sum = Q6_Vw_vrmpyacc_VwVubRb(sum, second[b], int32_t(x_high >> 32));
      }
      if constexpr (kPlanes == 2) {
        const int64_t x_low = reinterpret_cast<const EightBytes*>(of.x[t][1])[i];
        for (int b = 0; b < kBlocks; ++b) {
          low[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(low[b][t], first[b], int32_t(x_low));
          low[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(low[b][t], second[b], int32_t(x_low >> 32));
        }
      }
    }
  }
}

// The dots of one group for kBlocks row blocks and kTokens tokens: dots[block][token] starts as -offset times the sum of the token's values.
// kPlanes: bytes of x. kGroup: the group size, one stretch of code; or where it is a multiple of something, that with a minus.
template <int kBits, int kGroup, int kPlanes, int kBlocks, int kTokens>
__attribute__((always_inline)) inline void add_group_dots(const GroupOperands<kPlanes, kBlocks, kTokens>& of, int32_t group_size, int32_t eight,
                                                          Vector (&dots)[kBlocks][kTokens]) {
  Vector high[kBlocks][kTokens];
  if constexpr (kGroup > 0) {
    add_columns<kBits, kGroup, kPlanes == 2>(of, eight, kPlanes == 2 ? high : dots, dots);
  } else {
    for (auto& of_block : high) {
      for (Vector& sum : of_block) sum = Q6_V_vzero();
    }
    GroupOperands<kPlanes, kBlocks, kTokens> chunk = of;
    for (int32_t column = 0; column < group_size; column -= kGroup) {
      add_columns<kBits, -kGroup, false>(chunk, eight, kPlanes == 2 ? high : dots, dots);
      for (int b = 0; b < kBlocks; ++b) chunk.values[b] -= kGroup * 4 * kBits;
      for (auto& planes : chunk.x) {
        for (const uint8_t*& plane : planes) plane -= kGroup;
      }
    }
  }
  if constexpr (kPlanes == 2) {
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_Vw_vaslacc_VwVwR(dots[b][t], high[b][t], 8);
    }
  }
}

}  // namespace hvl::hexagon

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

// dots[block][token] of one group for kBlocks row blocks and kTokens tokens. kGroupSize: 0 when it is known at run time only.
template <int kBits, int kBlocks, int kTokens>
__attribute__((always_inline)) inline void group_dots(const uint8_t* values,   // of the group in the first block; 128-byte aligned
                                                      int64_t block_stride,    // bytes, a multiple of 128
                                                      const uint8_t* x,        // `hi` of the group in the first token; 8-byte aligned
                                                      int32_t padded_cols,     // bytes from `hi` to `lo`
                                                      const int32_t* sums,     // of the group in the first token
                                                      int32_t groups,          // sums from one token to the next
                                                      int32_t group_size,
                                                      Vector (&dots)[kBlocks][kTokens]) {
  constexpr int kOffset = kBits == 4 ? 8 : 128;
  Vector hi[kBlocks][kTokens], lo[kBlocks][kTokens];
  const Vector* w[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    w[b] = reinterpret_cast<const Vector*>(values + b * block_stride);
    for (int t = 0; t < kTokens; ++t) {
      hi[b][t] = Q6_V_vzero();
      lo[b][t] = Q6_V_vsplat_R(-kOffset * sums[t * groups]);
    }
  }
  const Vector low_nibbles = Q6_V_vsplat_R(0x0f0f0f0f), highest_bits = Q6_V_vsplat_R(0x80808080);
  for (int32_t k = 0; k < group_size; k += 8) {
    Vector first[kBlocks], second[kBlocks];  // weights of k .. k+3 and of k+4 .. k+7
    for (int b = 0; b < kBlocks; ++b) {
      if constexpr (kBits == 4) {
        const Vector packed = *w[b]++;
        first[b] = Q6_V_vand_VV(packed, low_nibbles);
        second[b] = Q6_Vub_vlsr_VubR(packed, 4);
      } else {
        first[b] = Q6_V_vxor_VV(*w[b]++, highest_bits);
        second[b] = Q6_V_vxor_VV(*w[b]++, highest_bits);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      const int64_t x_hi = *reinterpret_cast<const int64_t*>(x + t * 2 * padded_cols + k);
      const int64_t x_lo = *reinterpret_cast<const int64_t*>(x + t * 2 * padded_cols + padded_cols + k);
      for (int b = 0; b < kBlocks; ++b) {
        hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], first[b], int32_t(x_hi));
        lo[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[b][t], first[b], int32_t(x_lo));
        hi[b][t] = Q6_Vw_vrmpyacc_VwVubRb(hi[b][t], second[b], int32_t(x_hi >> 32));
        lo[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[b][t], second[b], int32_t(x_lo >> 32));
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_Vw_vaslacc_VwVwR(lo[b][t], hi[b][t], 8);
  }
}

}  // namespace hvl::hexagon

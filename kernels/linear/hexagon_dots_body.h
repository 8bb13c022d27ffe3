// The products of one group in HVX registers.
//
// vrmpy multiplies 32 rows by 4 bytes of x at once, unsigned weights by a plane of x; two of them fit into a packet, so that 128
// multiplications of 16 bits a packet, or 256 of 8 bits, are the most there can be. Weights are made unsigned: 4 bits are stored plus 8, and
// 8 bits get their highest bit flipped, which adds 128; what this adds to the dots is taken off where the accumulators start.
#pragma once

#include "kernels/linear/hexagon_strip.h"

namespace hvl::hexagon {
namespace {

using EightBytes = int64_t __attribute__((may_alias));

// log2 of what is added to a weight of kBits bits.
template <int kBits>
inline constexpr int32_t kOffsetBits = kBits == 4 ? 3 : 7;

// Where values lie: at multiples of 128 bytes, 64 behind one, or perhaps the one, perhaps the other.
enum class Place { kVector, kHalf, kAnywhere };

// The same value, of which the compiler knows nothing. It would reach the addresses of unrolled loops from fewer pointers, and add numbers to
// them again and again. Not for loops: code is not moved across.
template <class T>
HVL_HVX T opaque(T value) {
  asm("" : "+r"(value));
  return value;
}

// Adds the products of kColumns columns to the high and low parts. kFresh: high parts are written first. x: in a strip. eight: 8 * 128, opaque.
// between.operator()<i>(): called behind columns 8 i .. 8 i + 7, for what else fits into their packets.
template <int kBits, int kColumns, Place kPlace, bool kFresh, int kPlanes, int kBlocks, int kTokens, class Between>
HVL_HVX void add_columns(const uint8_t* const (&of)[kBlocks], const uint8_t* x, int32_t eight, Vector (&high)[kBlocks][kTokens],
                         Vector (&low)[kBlocks][kTokens], const Between& between) {
  // An address is a register and -8 to 7 vectors, which makes a register for 16 vectors.
  constexpr int kBehind = kPlace == Place::kHalf ? 64 : 0;  // from a multiple of 128 to the values
  const uint8_t* middle[kBlocks];
  Vector half[kBlocks];  // kHalf: the vector in the midst of which the next values begin
  const auto at = [&](int b, int i) __attribute__((always_inline)) {
    if (i > 0 && i % 16 == 0) middle[b] += 2 * eight;
    return load<kPlace != Place::kAnywhere>(middle[b] + (i % 16 - 8) * 128);
  };
  for (int b = 0; b < kBlocks; ++b) {
    middle[b] = of[b] - kBehind + eight;
    if constexpr (kBehind > 0) half[b] = at(b, 0);
  }
  const auto values = [&](int b, int i) __attribute__((always_inline)) -> Vector {
    if constexpr (kBehind == 0) return at(b, i);
    const Vector next = at(b, i + 1), both = Q6_V_valign_VVR(next, half[b], kBehind);
    half[b] = next;
    return both;
  };
  unrolled<kColumns / 8>([&]<int i>() __attribute__((always_inline)) {
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
    const auto* eights = reinterpret_cast<const EightBytes*>(x) + i * kTokens * kPlanes;
    for (int t = 0; t < kTokens; ++t) {
      const int64_t x_high = eights[t * kPlanes];
      for (int b = 0; b < kBlocks; ++b) {
        Vector& sum = high[b][t];
        sum = kFresh && i == 0 ? Q6_Vw_vrmpy_VubRb(first[b], int32_t(x_high)) : Q6_Vw_vrmpyacc_VwVubRb(sum, first[b], int32_t(x_high));
        sum = Q6_Vw_vrmpyacc_VwVubRb(sum, second[b], int32_t(x_high >> 32));
      }
    }
    if constexpr (kPlanes == 2) {
      for (int t = 0; t < kTokens; ++t) {
        const int64_t x_low = eights[t * kPlanes + 1];
        for (int b = 0; b < kBlocks; ++b) {
          low[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(low[b][t], first[b], int32_t(x_low));
          low[b][t] = Q6_Vuw_vrmpyacc_VuwVubRub(low[b][t], second[b], int32_t(x_low >> 32));
        }
      }
    }
    between.template operator()<i>();
  });
}

// The dots of one group for kBlocks row blocks and kTokens tokens, added to what dots[block][token] has. of: the group's values in each block. kPlanes:
// bytes of x. kGroup: the group size, one stretch of code; or where it is a multiple of something, that with a minus, and without `between`.
template <int kBits, int kPlanes, int kGroup, Place kPlace, int kBlocks, int kTokens, class Between>
HVL_HVX void add_group_dots(const uint8_t* const (&of)[kBlocks], const uint8_t* x, int32_t group_size, int32_t eight, Vector (&dots)[kBlocks][kTokens],
                            const Between& between) {
  Vector high[kBlocks][kTokens];
  if constexpr (kGroup > 0) {
    add_columns<kBits, kGroup, kPlace, kPlanes == 2, kPlanes>(of, x, eight, kPlanes == 2 ? high : dots, dots, between);
  } else {
    const uint8_t* chunk[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      chunk[b] = of[b];
      for (Vector& sum : high[b]) sum = Q6_V_vzero();
    }
    for (int32_t column = 0; column < group_size; column -= kGroup) {
      add_columns<kBits, -kGroup, Place::kAnywhere, false, kPlanes>(chunk, x, eight, kPlanes == 2 ? high : dots, dots, []<int>() {});
      for (const uint8_t*& values : chunk) values -= kGroup * 4 * kBits;
      x -= kGroup * kTokens * kPlanes;
    }
  }
  if constexpr (kPlanes == 2) {
    for (int b = 0; b < kBlocks; ++b) {
      for (int t = 0; t < kTokens; ++t) dots[b][t] = Q6_Vw_vaslacc_VwVwR(dots[b][t], high[b][t], 8);
    }
  }
}

}  // namespace
}  // namespace hvl::hexagon

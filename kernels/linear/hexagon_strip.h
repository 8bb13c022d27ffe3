// Some groups of some tokens' quantised rows, as the products want them: eight columns of every plane and token side by side, so that one register
// reaches all of them, and two numbers a group and token.
#pragma once

#include <utility>

#include "kernels/common/hexagon_vector.h"
#include "kernels/linear/linear.h"

namespace hvl::hexagon {
namespace {

// body.operator()<i>() for i in 0 .. kCount - 1.
template <int kCount, class Body>
HVL_HVX void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) { (body.template operator()<i>(), ...); }
  (std::make_integer_sequence<int, kCount>());
}

template <int kPlanes, int kTokens>
struct Strip {
  static constexpr int32_t kColumns = 2048, kGroups = kColumns / 32;  // at most
  static constexpr int kParts = kPlanes * kTokens;                    // of 8 bytes, for 8 columns

  alignas(128) uint8_t x[(kColumns + 128) * kParts];  // (columns / 8, tokens, planes, 8)
  // By token, then by group: what dots start with, less the part of the weight's offset if it is 0 (weights with zero points); and what
  // shift_down's n is, less the biased exponent of the scale.
  alignas(128) int32_t numbers[2 * kTokens][kGroups];
};

// Parts side by side, 8 bytes of each in turn. v: `kCount` sequences of one vector.
template <int kCount>
HVL_HVX void interleave(Vector (&v)[kCount]) {
  Vector merged[kCount];
#pragma unroll
  for (int vectors = 1; vectors < kCount; vectors *= 2) {  // of a sequence
    const int half = kCount / vectors / 2;                 // sequence s and s + half become one
#pragma unroll
    for (int i = 0; i < half * vectors; ++i) {
      const Pair both = Q6_W_vshuff_VVR(v[half * vectors + i], v[i], -8);
      merged[2 * i] = Q6_V_lo_W(both);
      merged[2 * i + 1] = Q6_V_hi_W(both);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = merged[i];
  }
}

// Groups [first, first + groups) of kTokens tokens from `token` on. starts_shift: 2^that is the weight's offset. from: by token, what shifts are less the
// exponents of x.
template <int kPlanes, int kTokens>
__attribute__((noinline)) void fill(Strip<kPlanes, kTokens>& strip, const QuantizedRows& x, int32_t token, int32_t first, int32_t groups, int32_t starts_shift,
                                    const int32_t* from) {
  constexpr int kParts = kPlanes * kTokens;
  const int32_t all = quantized_groups(x.cols, x.group_size), stride = all * x.group_size, columns = groups * x.group_size;
  const uint8_t* rows = x.q + int64_t{token} * kPlanes * stride + first * x.group_size;
  const auto side_by_side = [&]<int kVectors>(int32_t c, const auto& load_part) __attribute__((always_inline)) {
    Vector v[kVectors][kParts];
    for (int i = 0; i < kVectors; ++i) {
      for (int part = 0; part < kParts; ++part) v[i][part] = load_part(rows + part * stride + c + 128 * i);
    }
    for (int i = 0; i < kVectors; ++i) {
      interleave(v[i]);
      for (int part = 0; part < kParts; ++part) store<true>(strip.x + (c + 128 * i) * kParts + 128 * part, v[i][part]);
    }
  };
  int32_t c = 0;
  const auto whole = [&]<bool kAligned>() __attribute__((always_inline)) {
    const auto load_part = [](const uint8_t* at) __attribute__((always_inline)) { return load<kAligned>(at); };
    for (; c + 256 <= columns; c += 256) side_by_side.template operator()<2>(c, load_part);
    for (; c + 128 <= columns; c += 128) side_by_side.template operator()<1>(c, load_part);
  };
  (reinterpret_cast<uintptr_t>(rows) | uint32_t(stride)) % sizeof(Vector) == 0 ? whole.template operator()<true>() : whole.template operator()<false>();
  if (c < columns) side_by_side.template operator()<1>(c, [&](const uint8_t* at) __attribute__((always_inline)) { return load_bytes(at, columns - c); });
  for (int t = 0; t < kTokens; ++t) {
    const int64_t at = int64_t{token + t} * all + first;
    const int32_t *sums = x.sums + 2 * at, *exponents = reinterpret_cast<const int32_t*>(x.scales) + at;
    for (int32_t g = 0; g < groups; g += kLanes) {
      const int32_t bytes = groups - g < kLanes ? 4 * (groups - g) : int32_t(sizeof(Vector));  // behind them is anything
      constexpr int32_t kHalf = sizeof(Vector) / 2;
      const Vector lower = load_bytes(sums + 2 * g, bytes <= kHalf ? 2 * bytes : 2 * kHalf);
      const Vector upper = bytes <= kHalf ? lower : load_bytes(sums + 2 * g + kLanes, 2 * bytes - 2 * kHalf);
      const Vector every_other = Q6_V_lo_W(Q6_W_vdeal_VVR(upper, lower, -4));
      store<true>(strip.numbers[t] + g, Q6_Vw_vsub_VwVw(Q6_V_vzero(), Q6_Vw_vasl_VwR(every_other, starts_shift)));
      store<true>(strip.numbers[kTokens + t] + g, Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(from[t]), load_bytes(exponents + g, bytes)));
    }
  }
}

}  // namespace
}  // namespace hvl::hexagon

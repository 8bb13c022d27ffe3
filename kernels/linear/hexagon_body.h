// The linear layer in integers (docs/integer_arithmetic.md, section Linear), equal to fixed.cc to the bit.
//
// What bounds it: two vrmpy a packet (hexagon_dots_body.h), and the four slots of a packet. A vrmpy's vector of 4-bit weights takes a load, a mask, a shift
// and, where groups of 64-byte headers leave values in the midst of vectors, an alignment. One token takes four row blocks at once, which share
// its words of x: of groups of 128 that is 256 vrmpy, 224 of the rest, 32 loads of x and some 60 for the scales, 143 packets if none has a slot to
// spare; it takes 156. Two tokens take two row blocks. Four share their unpacked weights: 128 packets are what vrmpy needs, 141 it takes, and 44
// more for every row block.
// Scales are unpacked, and a group is scaled, between the products of the next group. A sum needs limits only where a scale is so large that
// its products are shifted to the left beyond 32 bits: where one is found, all is done again with them.
#pragma once

#include "kernels/linear/hexagon_scales.h"

namespace hvl {
namespace {

using hexagon::Place;
using hexagon::Strip;
using hexagon::Vector;

constexpr int32_t kGuard = 6;        // bits of a sum below the largest unit of its token
constexpr int32_t kBlockChunk = 32;  // row blocks whose sums are kept while there are several strips of x

// Some groups of some row blocks of a weight.
struct Part {
  const uint8_t* values;  // of the first group in the first block
  int32_t blocks, groups;
  int32_t block_bytes;               // from one to the next
  int32_t group_size;                // columns
};

// sum + shift_down(mul16(dot, m), n), for n that shift to the left by no more than products leave room for.
HVL_HVX Vector add_scaled(Vector sum, Vector dot, const hexagon::Scales& scales, int32_t n) {
  const Vector shift = Q6_Vw_vmin_VwVw(Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(n), scales.exponents), Q6_V_vsplat_R(31));
  return Q6_Vw_vadd_VwVw_sat(sum, Q6_Vw_vasr_VwVw(Q6_Vw_vmpye_VwVuh(dot, scales.mantissas), shift));
}

// The same for any n, and limited.
HVL_HVX Vector add_scaled_limited(Vector sum, Vector dot, const hexagon::Scales& scales, int32_t n) {
  const Vector most = Q6_V_vsplat_R(31);
  Vector shift = Q6_Vw_vmin_VwVw(Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(n), scales.exponents), most);
  shift = Q6_Vw_vmax_VwVw(shift, Q6_V_vsplat_R(-31));
  const Vector product = Q6_Vw_vmpye_VwVuh(dot, scales.mantissas);
  const Vector high = Q6_Vw_vasr_VwVw(product, Q6_Vw_vmin_VwVw(Q6_Vw_vadd_VwVw(shift, Q6_V_vsplat_R(32)), most));
  return Q6_Vw_vadd_VwVw_sat(sum, Q6_Vw_vsatdw_VwVw(high, Q6_Vw_vasr_VwVw(product, shift)));
}

// sums + the part's groups -> to, both (block, token); kBlocks at a time, and where there are fewer at the end, the last is repeated. Null
// sums: all are `start`. kPairs: an even number of groups, the values of the first and every other one 64 bytes behind vectors, the others' at them.
// Returns the largest biased exponents of the weight's scales: without limits they say whether `to` is right. A function for every form, so that
// its loop gets all registers.
template <int kBits, int kPlanes, int kGroup, bool kZeros, bool kF16, bool kLimits, bool kPairs, int kBlocks, int kTokens>
__attribute__((noinline)) Vector add_groups(const Part& part, const Strip<kPlanes, kTokens>& strip, const Vector* sums, Vector start, Vector* to) {
  constexpr int32_t kStripGroups = Strip<kPlanes, kTokens>::kGroups;
  constexpr int32_t zeros_behind = kZeros ? 64 : 0, scales_behind = (kF16 ? 64 : 128) + zeros_behind;  // before a group's values
  const int32_t size = kGroup > 0 ? kGroup : part.group_size, stride = hexagon::opaque(scales_behind + size * kBits * 4);
  const int32_t eight = hexagon::opaque(8 * int32_t(sizeof(Vector)));
  Vector largest = Q6_V_vzero();
  for (int32_t block = 0; block < part.blocks; block += kBlocks) {
    const uint8_t *x = strip.x, *values[kBlocks], *headers[kBlocks];
    const int32_t *numbers = strip.numbers[0], *numbers_before = numbers;
    Vector sum[kBlocks][kTokens], before[kBlocks][kTokens];
    for (int b = 0; b < kBlocks; ++b) {
      const int32_t index = block + b < part.blocks ? block + b : part.blocks - 1;
      values[b] = part.values + index * part.block_bytes;
      headers[b] = hexagon::kNoScales + (kPairs || reinterpret_cast<uintptr_t>(values[b]) % 128 ? 64 : 0);
      for (int t = 0; t < kTokens; ++t) {
        sum[b][t] = sums ? sums[index * kTokens + t] : start;
        before[b][t] = Q6_V_vzero();
      }
    }
    hexagon::Scales scales;
    const auto scale = [&]<Place kPlace, int of>() __attribute__((always_inline)) {  // of the group before; kPlace: where its scales are
      constexpr int b = of / kTokens, t = of % kTokens;
      if (t == 0) {
        scales = hexagon::scales_at<kF16, kPlace>(headers[b]);
        largest = Q6_Vw_vmax_VwVw(largest, scales.exponents);
      }
      const int32_t n = numbers_before[(kTokens + t) * kStripGroups];
      sum[b][t] = kLimits ? add_scaled_limited(sum[b][t], before[b][t], scales, n) : add_scaled(sum[b][t], before[b][t], scales, n);
    };
    constexpr int kParts = kBlocks * kTokens, kSteps = kGroup / 8, kLater = kTokens == 1 ? 0 : kSteps / kParts / 2;
    constexpr bool kOneBehind = kGroup > 0 && kParts <= 4;
    const auto scale_all = [&]<Place kPlace>() __attribute__((always_inline)) {
      hexagon::unrolled<kParts>([&]<int of>() __attribute__((always_inline)) { scale.template operator()<kPlace, of>(); });
    };
    const auto add = [&]<Place kPlace>() __attribute__((always_inline)) {
      Vector dots[kBlocks][kTokens];
      for (int t = 0; t < kTokens; ++t) {
        const Vector start = Q6_V_vsplat_R(numbers[t * kStripGroups]);
        for (int b = 0; b < kBlocks; ++b) dots[b][t] = kZeros ? Q6_Vw_vmpyie_VwVuh(start, hexagon::offsets_at<kBits>(values[b] - zeros_behind)) : start;
      }
      hexagon::add_group_dots<kBits, kPlanes, kGroup, kPlace>(values, x, size, eight, dots, [&]<int i>() __attribute__((always_inline)) {
        hexagon::unrolled<kParts>([&]<int of>() __attribute__((always_inline)) {
          if constexpr (kOneBehind && of * kSteps / kParts + kLater == i) scale.template operator()<kPlace, of>();
        });
      });
      for (int b = 0; b < kBlocks; ++b) {
        headers[b] = values[b] - scales_behind;
        values[b] += stride;
        for (int t = 0; t < kTokens; ++t) before[b][t] = dots[b][t];
      }
      x += size * kPlanes * kTokens;
      numbers_before = numbers;
      numbers += 1;
      if constexpr (!kOneBehind) scale_all.template operator()<hexagon::header_place(kPlace)>();
    };
    if constexpr (kPairs) {
      const auto pair = [&]() __attribute__((always_inline)) {
        add.template operator()<Place::kHalf>();
        add.template operator()<Place::kVector>();
      };
      int32_t left = part.groups;
      if constexpr (kGroup <= 64 && kTokens > 1) {  // packets of one turn are not filled from the next
        for (; left >= 4; left -= 4) {
          pair();
          pair();
        }
      }
      for (; left > 0; left -= 2) pair();
    } else {
      for (int32_t left = part.groups; left > 0; --left) add.template operator()<Place::kAnywhere>();
    }
    if constexpr (kOneBehind) scale_all.template operator()<kPairs ? Place::kHalf : Place::kAnywhere>();
    for (int b = 0; b < kBlocks && block + b < part.blocks; ++b) {
      for (int t = 0; t < kTokens; ++t) to[(block + b) * kTokens + t] = sum[b][t];
    }
  }
  return largest;
}

// Bits of the largest dot of a group.
int32_t dot_bits(const LinearArgs& args) {
  const LinearWeight& weight = args.weight;
  return 32 - __builtin_clz(uint32_t(weight.group_size - 1)) + args.x.bits - 1 + weight.bits - (weight.zero_points ? 0 : 1);
}

// Writes what kCount blocks' sums of a token make, `step` vectors from one to the next. rounded(sum): of its fraction; null bias and residual: none.
template <int kCount, bool kWhole, bool kBias, bool kResidual, class Rounded>
HVL_HVX void finish_some(const Vector* sums, int32_t step, const Rounded& rounded, int32_t bytes, const float* bias, const float* residual, float* out) {
  const auto at = [&](const float* p, int b) __attribute__((always_inline)) {
    return kWhole ? hexagon::load<true>(p + b * kLinearRowBlock) : hexagon::load_bytes(p, bytes);
  };
  Vector y[kCount];
  for (int b = 0; b < kCount; ++b) {
    y[b] = rounded(sums[b * step]);
    if constexpr (kBias) y[b] = Q6_Vw_vadd_VwVw_sat(y[b], at(bias, b));
    if constexpr (kResidual) y[b] = Q6_Vw_vadd_VwVw_sat(at(residual, b), y[b]);
  }
  for (int b = 0; b < kCount; ++b) kWhole ? hexagon::store<true>(out + b * kLinearRowBlock, y[b]) : hexagon::store_bytes(out, bytes, y[b]);
}

// The same of any blocks, with `words` rows; all whole where kWhole. n: round_down's.
template <bool kWhole, bool kBias, bool kResidual>
void finish_blocks(const Vector* sums, int32_t step, int32_t n, int32_t words, const float* bias, const float* residual, float* out) {
  const auto all = [&](const auto& rounded) __attribute__((always_inline)) {
    const auto some = [&]<int kCount>() __attribute__((always_inline)) {
      const int32_t bytes = 4 * (words < kLinearRowBlock ? words : kLinearRowBlock);
      finish_some<kCount, kWhole, kBias, kResidual>(sums, step, rounded, bytes, bias, residual, out);
      sums += kCount * step;
      words -= kCount * kLinearRowBlock;
      if constexpr (kBias) bias += kCount * kLinearRowBlock;
      if constexpr (kResidual) residual += kCount * kLinearRowBlock;
      out += kCount * kLinearRowBlock;
    };
    if constexpr (kWhole) {
      while (words >= 4 * kLinearRowBlock) some.template operator()<4>();
    }
    while (words > 0) some.template operator()<1>();
  };
  if (n > 0) {
    const int32_t shift = (n < 31 ? n : 31) - 1;
    all([=](Vector sum) __attribute__((always_inline)) { return Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwR(sum, shift), Q6_V_vzero()); });
  } else {
    const int32_t left = n > -31 ? -n : 31, high = left > 0 ? 32 - left : 31;
    all([=](Vector sum) __attribute__((always_inline)) { return Q6_Vw_vsatdw_VwVw(Q6_Vw_vasr_VwR(sum, high), Q6_Vw_vasl_VwR(sum, left)); });
  }
}

// The same, of blocks [block, block + blocks).
void finish(const LinearArgs& args, int32_t block, int32_t blocks, int32_t token, int32_t n, const Vector* sums, int32_t step) {
  const int32_t row = block * kLinearRowBlock, left = args.weight.rows - row, words = blocks * kLinearRowBlock < left ? blocks * kLinearRowBlock : left;
  const int64_t at = token * args.out_stride + row;
  const float *bias = args.bias ? args.bias + row : nullptr, *residual = args.residual ? args.residual + at : nullptr;
  float* out = args.out + at;
  const auto address = [](const float* p) { return reinterpret_cast<uintptr_t>(p); };
  const bool whole = words % kLinearRowBlock == 0 && ((address(bias) | address(residual) | address(out)) & 127) == 0;
  const auto of = [&]<bool kBias, bool kResidual>() {
    whole ? finish_blocks<true, kBias, kResidual>(sums, step, n, words, bias, residual, out)
          : finish_blocks<false, kBias, kResidual>(sums, step, n, words, bias, residual, out);
  };
  if (bias) {
    residual ? of.template operator()<true, true>() : of.template operator()<true, false>();
  } else {
    residual ? of.template operator()<false, true>() : of.template operator()<false, false>();
  }
}

// exponents: (kTokens, groups).
template <int kTokens>
void largest_exponents(const int32_t* exponents, int32_t groups, int32_t (&largest)[kTokens]) {
  Vector most[kTokens];
  for (Vector& v : most) v = Q6_V_vsplat_R(INT32_MIN);
  for (int32_t g = 0; g < groups; g += hexagon::kLanes) {
    const int32_t bytes = groups - g < hexagon::kLanes ? 4 * (groups - g) : int32_t(sizeof(Vector));
    for (int t = 0; t < kTokens; ++t) {
      const Vector here = hexagon::load_bytes(exponents + t * groups + g, bytes);
      most[t] = Q6_V_vmux_QVV(Q6_Q_vsetq2_R(bytes), Q6_Vw_vmax_VwVw(most[t], here), most[t]);
    }
  }
  hexagon::largest_words(most, largest);
}

// Blocks [begin, end) for kTokens tokens from `token` on, kBlocks at a time; where there are fewer at the end, the last is repeated.
template <int kBits, int kPlanes, int kGroup, bool kZeros, bool kF16, int kBlocks, int kTokens>
void tokens_of(const LinearArgs& args, int32_t begin, int32_t end, int32_t token) {
  const LinearWeight& weight = args.weight;
  const int32_t all = linear_groups(weight), strip_groups = Strip<kPlanes, kTokens>::kColumns / weight.group_size & ~1;  // 4 at least; for pairs
  const int32_t group_bytes = int32_t(linear_group_bytes(weight)), header = int32_t(linear_header_bytes(weight));
  const size_t block_bytes = linear_block_bytes(weight);
  const Vector start = Q6_V_vsplat_R(all >> 1);  // every group's sum is rounded down, by half a unit on average
  int32_t largest[kTokens], from[kTokens];
  largest_exponents(reinterpret_cast<const int32_t*>(args.x.scales) + int64_t{token} * all, all, largest);
  for (int t = 0; t < kTokens; ++t) from[t] = largest[t] + hexagon::kExponentBias<kF16> - 16 - kGuard;
  const int32_t most_exponent = 31 - dot_bits(args) + hexagon::kExponentBias<kF16> - 16 - kGuard;  // the least n is -16 - kGuard - exponent
  Strip<kPlanes, kTokens> strip;
  Vector kept[2][kBlockChunk * kTokens];
  // Long groups of 8-bit weights have enough products, for four tokens of 16 bits, to hide what alignment takes.
  constexpr bool kHides = kBits == 8 && kPlanes == 2 && kTokens == 4 && kGroup > 128;
  constexpr bool kPairs = kGroup > 0 && kF16 && !kZeros && !kHides;  // headers of 64 bytes
  int32_t filled = -1;
  for (int32_t chunk = begin; chunk < end; chunk += kBlockChunk) {
    const int32_t blocks = end - chunk < kBlockChunk ? end - chunk : kBlockChunk;
    const Vector* sums = nullptr;
    for (int32_t g = 0; g < all; g += strip_groups) {
      const int32_t groups = all - g < strip_groups ? all - g : strip_groups;
      if (filled != g) hexagon::fill(strip, args.x, token, g, groups, kZeros ? 0 : hexagon::kOffsetBits<kBits>, from);
      filled = g;
      const Part part = {.values = weight.data + size_t(chunk) * block_bytes + size_t(g) * size_t(group_bytes) + header,
                         .blocks = blocks,
                         .groups = groups,
                         .block_bytes = int32_t(block_bytes),
                         .group_size = weight.group_size};
      Vector* const to = kept[sums == kept[0] ? 1 : 0];
      const bool pairs = kPairs && ((reinterpret_cast<uintptr_t>(part.values) ^ 64) | block_bytes) % 128 == 0 && groups % 2 == 0;
      const Vector exponents = pairs ? add_groups<kBits, kPlanes, kGroup, kZeros, kF16, false, kPairs, kBlocks>(part, strip, sums, start, to)
                                     : add_groups<kBits, kPlanes, kGroup, kZeros, kF16, false, false, kBlocks>(part, strip, sums, start, to);
      int32_t largest_scale[1];
      hexagon::largest_words<1>({exponents}, largest_scale);
      if (largest_scale[0] > most_exponent) {
        add_groups<kBits, kPlanes, -32, kZeros, kF16, true, false, 1>(part, strip, sums, start, to);
      }
      sums = to;
    }
    for (int t = 0; t < kTokens; ++t) finish(args, chunk, blocks, token + t, kGuard - largest[t], sums + t, kTokens);
  }
}

template <int kBits, int kPlanes, int kGroup, bool kZeros, bool kF16>
void linear_of(const LinearArgs& args, int32_t begin, int32_t end) {
  constexpr int kBlocks = kBits == 4 && kPlanes == 2 ? 1 : 2;  // more is too much for 32 registers
  int32_t token = 0;
  for (; token + 4 <= args.x.rows; token += 4) tokens_of<kBits, kPlanes, kGroup, kZeros, kF16, kBlocks, 4>(args, begin, end, token);
  for (; token + 2 <= args.x.rows; token += 2) tokens_of<kBits, kPlanes, kGroup, kZeros, kF16, 2, 2>(args, begin, end, token);
  if (token < args.x.rows) tokens_of<kBits, kPlanes, kGroup, kZeros, kF16, 4, 1>(args, begin, end, token);
}

// Of weights of kBits bits.
template <int kBits>
void linear_of_bits(const LinearArgs& args, int32_t begin, int32_t end) {
  const LinearWeight& weight = args.weight;
  const auto of_zeros = [&]<int kPlanes, bool kZeros>() {
    // F32 scales are of checkpoints that F16 cannot hold: one form for all group sizes.
    if (weight.scale_bits == 32) return linear_of<kBits, kPlanes, -32, kZeros, false>(args, begin, end);
    switch (weight.group_size) {
      case 32:
        return linear_of<kBits, kPlanes, 32, kZeros, true>(args, begin, end);
      case 64:
        return linear_of<kBits, kPlanes, 64, kZeros, true>(args, begin, end);
      case 128:
        return linear_of<kBits, kPlanes, 128, kZeros, true>(args, begin, end);
    }
    if constexpr (kBits == 8 && !kZeros) {  // linear.h
      switch (weight.group_size) {
        case 256:
          return linear_of<kBits, kPlanes, 256, kZeros, true>(args, begin, end);
        case 384:
          return linear_of<kBits, kPlanes, 384, kZeros, true>(args, begin, end);
        case 512:
          return linear_of<kBits, kPlanes, 512, kZeros, true>(args, begin, end);
      }
    }
  };
  const auto of_planes = [&]<int kPlanes>() {
    weight.zero_points ? of_zeros.template operator()<kPlanes, true>() : of_zeros.template operator()<kPlanes, false>();
  };
  args.x.bits == 16 ? of_planes.template operator()<2>() : of_planes.template operator()<1>();
}

}  // namespace
}  // namespace hvl

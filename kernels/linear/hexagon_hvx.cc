// The linear layer in integers (docs/integer_arithmetic.md, section Linear), equal to fixed.cc to the bit.
//
// What bounds it: two vrmpy a packet (hexagon_dots_body.h). One token takes four row blocks at once, which share its words of x; four tokens
// take two, and share their unpacked weights. Scales are unpacked once for a block and up to kTokenChunk tokens. A sum needs limits only
// where a scale is so large that its products are shifted to the left beyond 32 bits: strips of groups with such a scale take a slower way.
#include "kernels/common/hexagon_rows.h"
#include "kernels/linear/hexagon_scales.h"

namespace hvl {
namespace {

using hexagon::Vector;

constexpr int32_t kGuard = 6;         // bits of a sum below the largest unit of its token
constexpr int32_t kTokenChunk = 64;   // tokens that share a block's unpacked scales
constexpr int32_t kStripWords = 64;   // (row block, group)s whose scales are unpacked at a time

// Groups in a row of some row blocks and tokens, with their scales.
template <int kPlanes, int kBlocks, int kTokens>
struct Strip {
  hexagon::GroupOperands<kPlanes, kBlocks, kTokens> first;  // its first group
  int32_t group_size;
  int32_t group_stride;               // bytes of the weight from one group to the next
  const int32_t* sums;                // of the first group in the first token: pairs
  const int32_t* exponents;           // the same
  int32_t token_groups;               // groups from one token to the next
  int32_t groups;
  const int32_t* largest;             // (tokens): the largest exponent
  int32_t below;                      // shift_down's n is largest - exponent + below - a scale word's odd half
  const Vector* words;                // (groups, step)
  const Vector* offsets;              // the same; not read where neither zero points nor limits are needed
  int32_t step;                       // the blocks, but for a strip of one of some blocks
};

// sum + shift_down(mul16(dot, m), n), for n that shift to the left by no more than products leave room for.
__attribute__((always_inline)) inline Vector add_scaled(Vector sum, Vector dot, Vector word, Vector exponent, int32_t n) {
  const Vector shift = Q6_Vw_vmin_VwVw(Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(n), exponent), Q6_V_vsplat_R(31));
  return Q6_Vw_vadd_VwVw_sat(sum, Q6_Vw_vasr_VwVw(Q6_Vw_vmpye_VwVuh(dot, word), shift));
}

// The same for any n, and limited.
__attribute__((always_inline)) inline Vector add_scaled_limited(Vector sum, Vector dot, Vector word, Vector exponent, int32_t n) {
  const Vector most = Q6_V_vsplat_R(31);
  Vector shift = Q6_Vw_vmin_VwVw(Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(n), exponent), most);
  shift = Q6_Vw_vmax_VwVw(shift, Q6_V_vsplat_R(-31));
  const Vector product = Q6_Vw_vmpye_VwVuh(dot, word);
  const Vector high = Q6_Vw_vasr_VwVw(product, Q6_Vw_vmin_VwVw(Q6_Vw_vadd_VwVw(shift, Q6_V_vsplat_R(32)), most));
  return Q6_Vw_vadd_VwVw_sat(sum, Q6_Vw_vsatdw_VwVw(high, Q6_Vw_vasr_VwVw(product, shift)));
}

// Adds the strip's groups to sums. A function for every form, so that its loop gets all registers.
template <int kBits, int kPlanes, int kGroup, bool kZeros, bool kLimits, int kBlocks, int kTokens>
__attribute__((noinline)) void add_strip(const Strip<kPlanes, kBlocks, kTokens>& strip, Vector (&sums)[kBlocks][kTokens]) {
  hexagon::GroupOperands<kPlanes, kBlocks, kTokens> of = strip.first;
  const Vector *words = strip.words, *offsets = strip.offsets;
  const int32_t *x_sums = strip.sums, *exponents = strip.exponents;
  const int32_t token_groups = strip.token_groups, group_stride = strip.group_stride, group_size = kGroup > 0 ? kGroup : strip.group_size;
  const int32_t step = kLimits ? strip.step : kBlocks, eight = hexagon::opaque(8 * int32_t(sizeof(Vector)));
  int32_t from[kTokens];
  Vector sum[kBlocks][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    from[t] = strip.largest[t] + strip.below;
    for (int b = 0; b < kBlocks; ++b) sum[b][t] = sums[b][t];
  }
  for (int32_t g = 0; g < strip.groups; ++g) {
    Vector dots[kBlocks][kTokens];
    for (int t = 0; t < kTokens; ++t) {
      const int32_t x_sum = x_sums[2 * t * token_groups];
      for (int b = 0; b < kBlocks; ++b) {
        dots[b][t] = kZeros ? Q6_Vw_vmpyie_VwVuh(Q6_V_vsplat_R(-x_sum), offsets[b]) : Q6_V_vsplat_R(-hexagon::kWeightOffset<kBits> * x_sum);
      }
    }
    hexagon::add_group_dots<kBits, kGroup>(of, group_size, eight, dots);
    for (int b = 0; b < kBlocks; ++b) {
      const Vector word = words[b], exponent = Q6_Vuw_vlsr_VuwR(word, 16);
      for (int t = 0; t < kTokens; ++t) {
        const int32_t n = from[t] - exponents[t * token_groups];
        sum[b][t] = kLimits ? add_scaled_limited(sum[b][t], dots[b][t], word, exponent, n) : add_scaled(sum[b][t], dots[b][t], word, exponent, n);
      }
      of.values[b] += group_stride;
    }
    for (auto& planes : of.x) {
      for (const uint8_t*& plane : planes) plane += group_size;
    }
    words += step;
    offsets += step;
    x_sums += 2;
    exponents += 1;
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int t = 0; t < kTokens; ++t) sums[b][t] = sum[b][t];
  }
}

// Row blocks that are done at once. Where there are fewer than kBlocks, the last is repeated.
template <int kBlocks>
struct Blocks {
  int32_t index[kBlocks];
  int32_t count;
};

// The unpacked scales and offsets of a strip.
struct Unpacked {
  alignas(128) Vector words[kStripWords + 4];  // groups are unpacked in twos
  alignas(128) Vector offsets[kStripWords];
  int32_t block = -1, blocks = 0, group = 0;  // whose they are
  bool limits;                                // whether sums need them
};

// Bits of the largest dot of a group.
int32_t dot_bits(const LinearArgs& args) {
  const LinearWeight& weight = args.weight;
  return 32 - __builtin_clz(uint32_t(weight.group_size - 1)) + args.x.bits - 1 + weight.bits - (weight.zero_points ? 0 : 1);
}

// Scales of a strip of `groups` groups, unless they are there already.
template <int kBlocks>
void unpack(const LinearArgs& args, const Blocks<kBlocks>& blocks, int32_t group, int32_t groups, Unpacked& to) {
  if (to.block == blocks.index[0] && to.blocks == kBlocks && to.group == group) return;
  to.block = blocks.index[0];
  to.blocks = kBlocks;
  to.group = group;
  const LinearWeight& weight = args.weight;
  const uint8_t* first = weight.data + size_t(group) * linear_group_bytes(weight);
  const size_t block_bytes = linear_block_bytes(weight);
  const uint8_t* group_of[kBlocks];
  for (int b = 0; b < kBlocks; ++b) group_of[b] = first + blocks.index[b] * block_bytes;
  const Vector largest = hexagon::unpack_scales(weight, group_of, groups, to.words);
  // The least n is -16 - kGuard - exponent.
  const int32_t most_left = hexagon::largest_half(largest) - hexagon::exponent_bias(weight.scale_bits) + 16 + kGuard;
  to.limits = most_left > 31 - dot_bits(args);
  if (!weight.zero_points && !to.limits) return;
  for (int b = 0; b < kBlocks; ++b) hexagon::unpack_offsets(weight, group_of[b], groups, kBlocks, to.offsets + b);
}

// round_down(sum, n)
__attribute__((always_inline)) inline Vector round_down(Vector sum, int32_t n) {
  if (n > 0) return Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwR(sum, (n < 31 ? n : 31) - 1), Q6_V_vzero());
  const int32_t left = n > -31 ? -n : 31;
  return Q6_Vw_vsatdw_VwVw(Q6_Vw_vasr_VwR(sum, left > 0 ? 32 - left : 31), Q6_Vw_vasl_VwR(sum, left));
}

// Where the bias, the residual and outputs of a block are; whole vectors at multiples of 128 bytes, or parts of them anywhere.
struct Outputs {
  const float *bias, *residual;
  float* out;
  int32_t bytes;
};
Outputs outputs_at(const LinearArgs& args, int32_t block, int32_t token) {
  const int32_t row = block * kLinearRowBlock, left = args.weight.rows - row;
  const int64_t at = token * args.out_stride + row;
  return {args.bias ? args.bias + row : nullptr, args.residual ? args.residual + at : nullptr, args.out + at, left < kLinearRowBlock ? left * 4 : 128};
}
bool is_aligned(const LinearArgs& args) {
  const auto address = [](const float* p) { return reinterpret_cast<uintptr_t>(p); };
  return ((address(args.bias) | address(args.residual) | address(args.out) | uintptr_t(args.out_stride * 4)) & 127) == 0;
}

__attribute__((always_inline)) inline void finish_aligned(const Outputs& to, Vector y) {
  if (to.bias) y = Q6_Vw_vadd_VwVw_sat(y, *reinterpret_cast<const Vector*>(to.bias));
  if (to.residual) y = Q6_Vw_vadd_VwVw_sat(*reinterpret_cast<const Vector*>(to.residual), y);
  *reinterpret_cast<Vector*>(to.out) = y;
}
__attribute__((noinline)) void finish_anywhere(const Outputs& to, Vector y) {
  if (to.bias) y = Q6_Vw_vadd_VwVw_sat(y, hexagon::load_part(to.bias, to.bytes));
  if (to.residual) y = Q6_Vw_vadd_VwVw_sat(hexagon::load_part(to.residual, to.bytes), y);
  hexagon::store_part(to.out, y, to.bytes);
}

// Writes what the sums of one block make.
template <int kTokens>
__attribute__((always_inline)) inline void finish(const LinearArgs& args, bool aligned, int32_t block, int32_t token, const int32_t* largest,
                                                  const Vector (&sums)[kTokens]) {
  Outputs to = outputs_at(args, block, token);
  for (int t = 0; t < kTokens; ++t) {
    const Vector y = round_down(sums[t], kGuard - largest[t]);
    aligned && to.bytes == 128 ? finish_aligned(to, y) : finish_anywhere(to, y);
    to.out += args.out_stride;
    if (to.residual) to.residual += args.out_stride;
  }
}

// Adds the strip's groups to the sum of its block b and token t, whatever the weights and scales are.
template <int kBits, int kPlanes, int kBlocks, int kTokens>
void add_strip_slowly(const Strip<kPlanes, kBlocks, kTokens>& strip, int32_t b, int32_t t, Vector& sum) {
  Strip<kPlanes, 1, 1> one = {.first = {{strip.first.values[b]}, {}},
                              .group_size = strip.group_size,
                              .group_stride = strip.group_stride,
                              .sums = strip.sums + 2 * t * strip.token_groups,
                              .exponents = strip.exponents + t * strip.token_groups,
                              .token_groups = strip.token_groups,
                              .groups = strip.groups,
                              .largest = strip.largest + t,
                              .below = strip.below,
                              .words = strip.words + b,
                              .offsets = strip.offsets + b,
                              .step = strip.step};
  for (int p = 0; p < kPlanes; ++p) one.first.x[0][p] = strip.first.x[t][p];
  Vector sums[1][1] = {{sum}};
  add_strip<kBits, kPlanes, -32, true, true>(one, sums);
  sum = sums[0][0];
}

// kTokens tokens from `token` on, whose largest exponents `largest` has, of some blocks.
template <int kBits, int kPlanes, int kGroup, bool kZeros, int kTokens, int kBlocks>
void tile(const LinearArgs& args, const Blocks<kBlocks>& blocks, int32_t token, const int32_t* largest, Unpacked& unpacked) {
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight), group_bytes = int32_t(linear_group_bytes(weight)), padded_cols = groups * weight.group_size;
  const uint8_t* x = args.x.q + int64_t{token} * kPlanes * padded_cols;
  const auto* exponents = reinterpret_cast<const int32_t*>(args.x.scales) + int64_t{token} * groups;
  const int32_t* x_sums = args.x.sums + 2 * int64_t{token} * groups;
  Vector sums[kBlocks][kTokens];
  for (auto& of_block : sums) {
    for (Vector& sum : of_block) sum = Q6_V_vsplat_R(groups >> 1);  // every group's sum is rounded down, by half a unit on average
  }
  constexpr int32_t kGroups = kStripWords / kBlocks;
  const bool aligned = is_aligned(args);
  for (int32_t g = 0; g < groups; g += kGroups) {
    const int32_t count = groups - g < kGroups ? groups - g : kGroups;
    unpack(args, blocks, g, count, unpacked);
    Strip<kPlanes, kBlocks, kTokens> strip = {.first = {},
                                              .group_size = weight.group_size,
                                              .group_stride = group_bytes,
                                              .sums = x_sums + 2 * g,
                                              .exponents = exponents + g,
                                              .token_groups = groups,
                                              .groups = count,
                                              .largest = largest,
                                              .below = hexagon::exponent_bias(weight.scale_bits) - 16 - kGuard,
                                              .words = unpacked.words,
                                              .offsets = unpacked.offsets,
                                              .step = kBlocks};
    const uint8_t* values = weight.data + size_t(g) * group_bytes + linear_header_bytes(weight);
    for (int b = 0; b < kBlocks; ++b) strip.first.values[b] = values + size_t(blocks.index[b]) * linear_block_bytes(weight);
    for (int t = 0; t < kTokens; ++t) {
      for (int p = 0; p < kPlanes; ++p) strip.first.x[t][p] = x + g * weight.group_size + (t * kPlanes + p) * padded_cols;
    }
    if (!unpacked.limits) {
      add_strip<kBits, kPlanes, kGroup, kZeros, false>(strip, sums);
      continue;
    }
    for (int b = 0; b < blocks.count; ++b) {
      for (int t = 0; t < kTokens; ++t) add_strip_slowly<kBits>(strip, b, t, sums[b][t]);
    }
  }
  for (int b = 0; b < blocks.count; ++b) finish<kTokens>(args, aligned, blocks.index[b], token, largest, sums[b]);
}

// Blocks [begin, end), kBlocks at a time.
template <int kBlocks, class Body>
void for_blocks(int32_t begin, int32_t end, const Body& body) {
  for (int32_t block = begin; block < end; block += kBlocks) {
    Blocks<kBlocks> blocks = {{}, end - block < kBlocks ? end - block : kBlocks};
    for (int b = 0; b < kBlocks; ++b) blocks.index[b] = block + (b < blocks.count ? b : blocks.count - 1);
    body(blocks);
  }
}

int32_t largest_exponent(const int32_t* exponents, int32_t groups) {
  int32_t most = exponents[0];
  for (int32_t g = 1; g < groups; ++g) most = exponents[g] > most ? exponents[g] : most;
  return most;
}

template <int kBits, int kPlanes, int kGroup, bool kZeros>
void linear_of(const LinearArgs& args, int32_t begin, int32_t end) {
  const int32_t groups = linear_groups(args.weight);
  const auto* exponents = reinterpret_cast<const int32_t*>(args.x.scales);
  Unpacked unpacked;
  int32_t largest[kTokenChunk];
  for (int32_t first = 0; first < args.x.rows; first += kTokenChunk) {
    const int32_t left = args.x.rows - first, tokens = left < kTokenChunk ? left : kTokenChunk, fours = tokens & ~3;
    for (int32_t t = 0; t < tokens; ++t) largest[t] = largest_exponent(exponents + int64_t{first + t} * groups, groups);
    if (fours) {
      for_blocks<1>(begin, end, [&](const Blocks<1>& blocks) {
        for (int32_t t = 0; t < fours; t += 4) tile<kBits, kPlanes, kGroup, kZeros, 4>(args, blocks, first + t, largest + t, unpacked);
      });
    }
    if (fours < tokens) {
      for_blocks<4>(begin, end, [&](const Blocks<4>& blocks) {
        for (int32_t t = fours; t < tokens; ++t) tile<kBits, kPlanes, kGroup, kZeros, 1>(args, blocks, first + t, largest + t, unpacked);
      });
    }
  }
}

}  // namespace

void linear_hvx(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  const LinearWeight& weight = args.weight;
  const auto of = [&]<int kBits, int kPlanes, bool kZeros>() {
    switch (weight.group_size) {
      case 32:
        return linear_of<kBits, kPlanes, 32, kZeros>(args, begin, end);
      case 64:
        return linear_of<kBits, kPlanes, 64, kZeros>(args, begin, end);
      case 128:
        return linear_of<kBits, kPlanes, 128, kZeros>(args, begin, end);
    }
    if constexpr (kBits == 8 && !kZeros) {  // linear.h
      switch (weight.group_size) {
        case 256:
          return linear_of<kBits, kPlanes, 256, kZeros>(args, begin, end);
        case 384:
          return linear_of<kBits, kPlanes, 384, kZeros>(args, begin, end);
        case 512:
          return linear_of<kBits, kPlanes, 512, kZeros>(args, begin, end);
      }
    }
  };
  const auto of_bits = [&]<int kBits, int kPlanes>() {
    weight.zero_points ? of.template operator()<kBits, kPlanes, true>() : of.template operator()<kBits, kPlanes, false>();
  };
  if (weight.bits == 4) {
    args.x.bits == 16 ? of_bits.template operator()<4, 2>() : of_bits.template operator()<4, 1>();
  } else {
    args.x.bits == 16 ? of_bits.template operator()<8, 2>() : of_bits.template operator()<8, 1>();
  }
}

}  // namespace hvl

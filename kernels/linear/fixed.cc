// The linear layer in integers (docs/integer_arithmetic.md, section Linear): exact dots, 16-bit mantissas of scales, int32 sums.
#include "kernels/common/fixed.h"
#include "kernels/linear/fixed_weight.h"
#include "kernels/linear/linear.h"

namespace hvl {
namespace {

constexpr int32_t kGuard = 6;         // bits of a sum below the largest unit of its token
constexpr int32_t kTokenBlock = 64;   // tokens that share a group's unpacked weights
using Weights = int16_t[kLinearRowBlock][kMostGroup];

void unpack_group(const LinearWeight& weight, const uint8_t* group, Weights& out) {
  int16_t zero_points[kLinearRowBlock] = {};
  if (weight.zero_points) __builtin_memcpy(zero_points, group + linear_scale_bytes(weight), sizeof zero_points);
  const uint8_t* values = group + linear_header_bytes(weight);
  for (int32_t r = 0; r < kLinearRowBlock; ++r) {
    for (int32_t i = 0; i < weight.group_size; i += 4) {
      const uint8_t* four = values + (weight.bits == 4 ? i / 8 : i / 4) * 128 + 4 * r;
      const int shift = i % 8 < 4 ? 0 : 4;
      for (int32_t b = 0; b < 4; ++b) {
        const int32_t w = weight.bits == 4 ? (four[b] >> shift & 15) - 8 : int8_t(four[b]);
        out[r][i + b] = int16_t(w - zero_points[r]);
      }
    }
  }
}

void x_values(const QuantizedRows& x, int64_t padded_cols, int32_t token, int32_t group, int16_t* out) {
  const uint8_t* first = x.q + token * padded_cols * (x.bits / 8) + int64_t{group} * x.group_size;
  if (x.bits == 8) {
    for (int32_t i = 0; i < x.group_size; ++i) out[i] = int8_t(first[i]);
    return;
  }
  const uint8_t* low = first + padded_cols;
  for (int32_t i = 0; i < x.group_size; ++i) out[i] = int16_t(first[i] << 8 | low[i]);
}

int32_t dot(const int16_t* x, const int16_t* w, int32_t n) {
  int32_t sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += x[i] * w[i];
  return sum;
}

// The largest exponent of a token's groups: its sums are in units of 2^(largest - kGuard).
int32_t largest_exponent(const int32_t* exponents, int32_t groups) {
  int32_t most = exponents[0];
  for (int32_t g = 1; g < groups; ++g) most = exponents[g] > most ? exponents[g] : most;
  return most;
}

}  // namespace

void linear_fixed(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  const LinearWeight& weight = args.weight;
  const int32_t groups = linear_groups(weight);
  const int64_t padded_cols = int64_t{groups} * weight.group_size;
  const auto* exponents = reinterpret_cast<const int32_t*>(args.x.scales);
  const auto* bias = reinterpret_cast<const int32_t*>(args.bias);
  const auto* residual = reinterpret_cast<const int32_t*>(args.residual);
  auto* out = reinterpret_cast<int32_t*>(args.out);
  alignas(64) Weights w;
  alignas(64) int16_t x[kMostGroup];
  int32_t sums[kTokenBlock][kLinearRowBlock], largest[kTokenBlock];
  for (int32_t block = begin; block < end; ++block) {
    const uint8_t* data = weight.data + size_t(block) * linear_block_bytes(weight);
    const int32_t row0 = block * kLinearRowBlock, left = weight.rows - row0, rows = left < kLinearRowBlock ? left : kLinearRowBlock;
    for (int32_t t0 = 0; t0 < args.x.rows; t0 += kTokenBlock) {
      const int32_t tokens = args.x.rows - t0 < kTokenBlock ? args.x.rows - t0 : kTokenBlock;
      for (int32_t t = 0; t < tokens; ++t) {
        largest[t] = largest_exponent(exponents + int64_t{t0 + t} * groups, groups);
        for (int32_t& sum : sums[t]) sum = groups >> 1;  // every group's sum is rounded down, by half a unit on average
      }
      for (int32_t g = 0; g < groups; ++g) {
        const uint8_t* group = data + size_t(g) * linear_group_bytes(weight);
        unpack_group(weight, group, w);
        fixed::WeightScale scales[kLinearRowBlock];
        for (int32_t r = 0; r < kLinearRowBlock; ++r) scales[r] = fixed::weight_scale(weight, group, r);
        for (int32_t t = 0; t < tokens; ++t) {
          x_values(args.x, padded_cols, t0 + t, g, x);
          const int32_t below = largest[t] - exponents[int64_t{t0 + t} * groups + g];
          for (int32_t r = 0; r < rows; ++r) {
            const int32_t product = fixed::mul16(dot(x, w[r], weight.group_size), scales[r].mantissa);
            sums[t][r] = fixed::add(sums[t][r], fixed::shift_down(product, below - 16 - kGuard - scales[r].exponent));
          }
        }
      }
      for (int32_t t = 0; t < tokens; ++t) {
        const int64_t at = (t0 + t) * args.out_stride + row0;
        for (int32_t r = 0; r < rows; ++r) {
          int32_t y = fixed::round_down(sums[t][r], kGuard - largest[t]);
          if (bias) y = fixed::add(y, bias[row0 + r]);
          if (residual) y = fixed::add(residual[at + r], y);
          out[at + r] = y;
        }
      }
    }
  }
}

}  // namespace hvl

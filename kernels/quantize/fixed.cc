// Activations to 16 or 8 bits with a power of two a token and group (docs/integer_arithmetic.md, section Quantised rows). `scales` holds its
// exponent as int32: activation = value * 2^exponent.
#include "kernels/common/fixed.h"
#include "kernels/quantize/quantize.h"

namespace hvl {
namespace {

constexpr int32_t kMaxGroup = 512;

// values: group_size of them -> planes and sums of group g of a row.
void store_group(const QuantizedRows& out, int64_t row, int32_t g, const int32_t* values) {
  const int64_t groups = quantized_groups(out.cols, out.group_size), padded_cols = groups * out.group_size;
  uint8_t* first = out.q + row * padded_cols * (out.bits / 8) + int64_t{g} * out.group_size;
  uint8_t* low = first + padded_cols;
  int32_t sum = 0, sum_first = 0;
  for (int32_t i = 0; i < out.group_size; ++i) {
    const int32_t high = out.bits == 16 ? values[i] >> 8 : values[i];
    first[i] = uint8_t(high);
    if (out.bits == 16) low[i] = uint8_t(values[i]);
    sum += values[i];
    sum_first += high;
  }
  int32_t* sums = out.sums + 2 * (row * groups + g);
  sums[0] = sum;
  sums[1] = sum_first;
}

}  // namespace

void quantize_fixed(const QuantizeArgs& args, int32_t begin, int32_t end) noexcept {
  const QuantizedRows& out = args.out;
  const int32_t groups = quantized_groups(out.cols, out.group_size), digits = out.bits - 1, limit = (1 << digits) - 1;
  auto* exponents = reinterpret_cast<int32_t*>(out.scales);
  for (int32_t row = begin; row < end; ++row) {
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t left = out.cols - g * out.group_size, n = left < out.group_size ? left : out.group_size;
      const int32_t* x = reinterpret_cast<const int32_t*>(args.x) + row * args.x_stride + int64_t{g} * out.group_size;
      const int32_t bits = fixed::width(fixed::any_magnitude(x, n)), exponent = bits > digits ? bits - digits : 0;
      int32_t values[kMaxGroup] = {};
      for (int32_t i = 0; i < n; ++i) values[i] = fixed::clamp(fixed::round_down(x[i], exponent), limit);
      exponents[int64_t{row} * groups + g] = exponent;
      store_group(out, row, g, values);
    }
  }
}

void quantize_i16_fixed(const QuantizeI16Args& args, int32_t begin, int32_t end) noexcept {
  const QuantizedRows& out = args.out;
  const int32_t groups = quantized_groups(out.cols, out.group_size);
  auto* exponents = reinterpret_cast<int32_t*>(out.scales);
  const int32_t exponent = fixed::kFraction + 23 + fixed::scalar(args.scale).exponent;  // of a power of two
  for (int32_t row = begin; row < end; ++row) {
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t left = out.cols - g * out.group_size, n = left < out.group_size ? left : out.group_size;
      const int16_t* x = args.x + int64_t{row} * out.cols + int64_t{g} * out.group_size;
      int32_t values[kMaxGroup] = {};
      for (int32_t i = 0; i < n; ++i) values[i] = x[i];
      exponents[int64_t{row} * groups + g] = exponent;
      store_group(out, row, g, values);
    }
  }
}

}  // namespace hvl

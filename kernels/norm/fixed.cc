// LayerNorm and RMSNorm in integers (docs/integer_arithmetic.md, section Norms). weight: words of mantissa and exponent; bias: activations.
#include "kernels/common/fixed_rms.h"
#include "kernels/norm/norm.h"

namespace hvl {
namespace {

// The mean rounded to nearest, halves up.
int32_t mean_of(const int32_t* x, int32_t n) {
  int64_t sum = n / 2;
  for (int32_t i = 0; i < n; ++i) sum += x[i];
  return int32_t(sum / n - (sum % n < 0 ? 1 : 0));
}

}  // namespace

void norm_fixed(const NormArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* weight = reinterpret_cast<const int32_t*>(args.weight);
  const auto* bias = reinterpret_cast<const int32_t*>(args.bias);
  const bool layer = args.kind == NormKind::kLayer;
  for (int32_t row = begin; row < end; ++row) {
    const auto* x = reinterpret_cast<const int32_t*>(args.x) + row * args.x_stride;
    auto* out = reinterpret_cast<int32_t*>(args.out) + row * args.out_stride;
    const int32_t mean = layer ? mean_of(x, args.cols) : 0;
    for (int32_t i = 0; i < args.cols; ++i) out[i] = fixed::sub(x[i], mean);
    const fixed::InverseRms inverse = fixed::inverse_rms(out, args.cols, args.eps);
    for (int32_t i = 0; i < args.cols; ++i) {
      const int32_t y = fixed::weighted(fixed::unit(out[i], inverse), weight[i]);
      out[i] = layer ? fixed::add(y, bias[i]) : y;
    }
  }
}

}  // namespace hvl

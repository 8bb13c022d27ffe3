// Per-head RMSNorm and rotation in integers (docs/integer_arithmetic.md, section Rotation). weight: words of mantissa and exponent; cos and
// sin: int32 with 31 fraction bits.
#include "kernels/common/fixed_rms.h"
#include "kernels/rope/rope.h"

namespace hvl {

void rope_fixed(const RopeArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* weight = reinterpret_cast<const int32_t*>(args.weight);
  const int32_t half = args.head_dim / 2;
  for (int32_t row = begin; row < end; ++row) {
    const auto* cos = reinterpret_cast<const int32_t*>(args.cos) + int64_t{args.position + row} * half;
    const auto* sin = reinterpret_cast<const int32_t*>(args.sin) + int64_t{args.position + row} * half;
    for (int32_t head = 0; head < args.heads; ++head) {
      auto* x = reinterpret_cast<int32_t*>(args.x) + row * args.x_stride + int64_t{head} * args.head_dim;
      if (weight) {
        const fixed::InverseRms inverse = fixed::inverse_rms(x, args.head_dim, args.eps);
        for (int32_t i = 0; i < args.head_dim; ++i) x[i] = fixed::weighted(fixed::unit(x[i], inverse), weight[i]);
      }
      for (int32_t i = 0; i < half; ++i) {
        const int32_t a = x[i], b = x[i + half];
        x[i] = fixed::sub(fixed::mul31(a, cos[i]), fixed::mul31(b, sin[i]));
        x[i + half] = fixed::add(fixed::mul31(b, cos[i]), fixed::mul31(a, sin[i]));
      }
    }
  }
}

}  // namespace hvl

// Activations in integers: max(x, 0) less a tail of |x| from a table of cubics (docs/integer_arithmetic.md, section Activations).
#include "kernels/activation/activation.h"
#include "kernels/activation/fixed_tables.h"
#include "kernels/common/fixed.h"

namespace hvl {
namespace {

int32_t multiply_q15(int32_t a, int32_t b) { return (a * b + (1 << 14)) >> 15; }  // of int16: vmpy(h, h):<<1:rnd:sat

int32_t activated(int32_t x, const fixed::TailTable& table) {
  const int32_t a = x < 0 ? fixed::sub(0, x) : x, segment = a >> table.shift, positive = x > 0 ? x : 0;
  if (segment >= fixed::kTailSegments) return positive;
  const int32_t t = (a << (15 - table.shift)) & 32767;
  int32_t h = table.coefficients[3][segment];
  for (int i = 2; i >= 0; --i) h = multiply_q15(h, t) + table.coefficients[i][segment];
  return positive - fixed::round_down(h, fixed::kTailFraction - fixed::kFraction);
}

// Null: max(x, 0).
const fixed::TailTable* table_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kGeluTanh:
      return &fixed::kGeluTanhTail;
    case ActivationKind::kGeluErf:
      return &fixed::kGeluErfTail;
    case ActivationKind::kSilu:
      return &fixed::kSiluTail;
    case ActivationKind::kQuickGelu:
      return &fixed::kQuickGeluTail;
    case ActivationKind::kRelu:
      break;
  }
  return nullptr;
}

}  // namespace

void activation_fixed(const ActivationArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* x = reinterpret_cast<const int32_t*>(args.x);
  auto* out = reinterpret_cast<int32_t*>(args.out);
  const fixed::TailTable* table = table_of(args.kind);
  for (int64_t i = int64_t{begin} * args.cols; i < int64_t{end} * args.cols; ++i) {
    out[i] = table ? activated(x[i], *table) : x[i] > 0 ? x[i] : 0;
  }
}

void silu_mul_fixed(const SiluMulArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* gate = reinterpret_cast<const int32_t*>(args.gate);
  const auto* up = reinterpret_cast<const int32_t*>(args.up);
  auto* out = reinterpret_cast<int32_t*>(args.out);
  for (int64_t i = int64_t{begin} * args.cols; i < int64_t{end} * args.cols; ++i) {
    const int64_t product = int64_t{activated(gate[i], fixed::kSiluTail)} * up[i];
    out[i] = fixed::saturate((product + (1 << (fixed::kFraction - 1))) >> fixed::kFraction);
  }
}

}  // namespace hvl

// Saturating sums of activations (docs/integer_arithmetic.md).
#include "kernels/add/add.h"
#include "kernels/common/fixed.h"

namespace hvl {

void add_fixed(const AddArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* a = reinterpret_cast<const int32_t*>(args.a);
  const auto* b = reinterpret_cast<const int32_t*>(args.b);
  auto* out = reinterpret_cast<int32_t*>(args.out);
  for (int64_t i = int64_t{begin} * args.cols; i < int64_t{end} * args.cols; ++i) out[i] = fixed::add(a[i], b[i]);
}

}  // namespace hvl

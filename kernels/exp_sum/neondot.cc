// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/exp_sum/exp_sum_body.h"
// clang-format on

namespace hvl {

void exp_sum_neondot(const ExpSumArgs& args, int32_t begin, int32_t end) noexcept { exp_sum_body(args, begin, end); }

}  // namespace hvl

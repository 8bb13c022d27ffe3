// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/common/eval_body.h"
// clang-format on

namespace hvl {

void math_neondot(const MathArgs& args, int32_t begin, int32_t end) noexcept { math_body(args, begin, end); }

}  // namespace hvl

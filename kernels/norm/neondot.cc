// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/norm/norm_body.h"
// clang-format on

namespace hvl {

void norm_neondot(const NormArgs& args, int32_t begin, int32_t end) noexcept { norm_body(args, begin, end); }

}  // namespace hvl

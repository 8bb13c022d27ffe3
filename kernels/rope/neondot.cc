// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/rope/rope_body.h"
// clang-format on

namespace hvl {

void rope_neondot(const RopeArgs& args, int32_t begin, int32_t end) noexcept { rope_body(args, begin, end); }

}  // namespace hvl

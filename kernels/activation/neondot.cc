// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/activation/activation_body.h"
// clang-format on

namespace hvl {

void activation_neondot(const ActivationArgs& args, int32_t begin, int32_t end) noexcept { activation_body(args, begin, end); }
void silu_mul_neondot(const SiluMulArgs& args, int32_t begin, int32_t end) noexcept { silu_mul_body(args, begin, end); }

}  // namespace hvl

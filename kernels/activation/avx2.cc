// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_avx2.h"
#include "kernels/activation/activation_body.h"
// clang-format on

namespace hvl {

void activation_avx2(const ActivationArgs& args, int32_t begin, int32_t end) noexcept { activation_body(args, begin, end); }
void silu_mul_avx2(const SiluMulArgs& args, int32_t begin, int32_t end) noexcept { silu_mul_body(args, begin, end); }

}  // namespace hvl

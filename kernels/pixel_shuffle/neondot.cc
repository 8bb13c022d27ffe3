// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/pixel_shuffle/pixel_shuffle_body.h"
// clang-format on

namespace hvl {

void pixel_shuffle_neondot(const PixelShuffleArgs& args, int32_t begin, int32_t end) noexcept { pixel_shuffle_body(args, begin, end); }

}  // namespace hvl

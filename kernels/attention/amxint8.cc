// clang-format off: the vector comes before the bodies that are written against it
#include "kernels/common/vec16_avx512.h"
#include "kernels/attention/attention_body.h"
#include "kernels/attention/tile_attention.h"
// clang-format on

namespace hvl {

void attention_amxint8(const AttentionArgs& args, int32_t begin, int32_t end) noexcept { tile_attention_body(args, begin, end); }

}  // namespace hvl

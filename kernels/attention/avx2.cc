// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_avx2.h"
#include "kernels/attention/attention_body.h"
// clang-format on

namespace hvl {

void attention_avx2(const AttentionArgs& args, int32_t begin, int32_t end) noexcept { attention_body(args, begin, end); }

}  // namespace hvl

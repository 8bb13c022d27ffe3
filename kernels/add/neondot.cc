// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/add/add_body.h"
// clang-format on

namespace hvl {

void add_neondot(const AddArgs& args, int32_t begin, int32_t end) noexcept { add_body(args, begin, end); }

}  // namespace hvl

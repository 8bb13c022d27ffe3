// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_neon.h"
#include "kernels/kv_store/kv_store_body.h"
// clang-format on

namespace hvl {

void kv_store_neondot(const KvStoreArgs& args, int32_t begin, int32_t end) noexcept { kv_store_body(args, begin, end); }

}  // namespace hvl

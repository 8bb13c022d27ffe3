// clang-format off: the vector comes before the body that is written against it
#include "kernels/common/vec16_avx512.h"
#include "kernels/kv_store/kv_store_body.h"
// clang-format on

namespace hvl {

void kv_store_avx512vnni(const KvStoreArgs& args, int32_t begin, int32_t end) noexcept { kv_store_body(args, begin, end); }

}  // namespace hvl

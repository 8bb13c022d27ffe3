// Any processor: dots of pairs of 16 bits that TVM compiles, softmax in C++. In a build without TVM the reference.
#include "kernels/attention/attention.h"

#ifndef HVL_TVM_KERNELS

namespace hvl {
void attention_reference(const AttentionArgs& args, int32_t begin, int32_t end) noexcept;
void attention_portable(const AttentionArgs& args, int32_t begin, int32_t end) noexcept { attention_reference(args, begin, end); }
}  // namespace hvl

#else

#define HVL_QK(name)                                                                                                                     \
  void hvl_tvm_qk_##name##_portable(const int16_t* q, const uint8_t* k, float* scores, int64_t q_stride, int64_t scores_stride, int64_t steps, \
                                    int32_t first) noexcept;
#define HVL_PV(name)                                                                                                                   \
  void hvl_tvm_pv_##name##_portable(const int16_t* p, const uint8_t* v, int32_t* dots, int64_t p_stride, int64_t block_bytes, int64_t step, \
                                    int64_t blocks) noexcept;
extern "C" {
HVL_QK(words_1) HVL_QK(words_2) HVL_QK(wide_1) HVL_QK(wide_2) HVL_PV(words_1) HVL_PV(words_2) HVL_PV(wide_1) HVL_PV(wide_2)
}

// clang-format off: the vector comes before the body that is written against it
#define HVL_ATTENTION_BLOCKS "kernels/attention/portable_blocks.h"
#include "kernels/common/vec16_portable.h"
#include "kernels/attention/attention_body.h"
// clang-format on

namespace hvl {

void attention_portable(const AttentionArgs& args, int32_t begin, int32_t end) noexcept { attention_body(args, begin, end); }

}  // namespace hvl

#endif

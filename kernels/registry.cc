#include "kernels/registry.h"

namespace hvl {

const KernelTable& kernel_table(Isa isa) noexcept {
#define HVL_REFERENCE(name, Args) &name##_reference,
#define HVL_AVX2(name, Args) &name##_avx2,
#define HVL_AVX512VNNI(name, Args) &name##_avx512vnni,
  static constexpr KernelTable kTables[kIsaCount] = {
      {HVL_KERNELS(HVL_REFERENCE)}, {HVL_KERNELS(HVL_AVX2)}, {HVL_KERNELS(HVL_AVX512VNNI)}};
  return kTables[static_cast<int>(isa)];
}

#ifdef HVL_TVM_KERNELS
extern const bool hvl_tvm_kernels = true;
#else
extern const bool hvl_tvm_kernels = false;
#endif

}  // namespace hvl

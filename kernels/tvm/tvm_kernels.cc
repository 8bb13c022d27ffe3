#include "kernels/tvm/tvm_kernels.h"

namespace hvl {

#ifdef HVL_TVM_KERNELS
const bool hvl_tvm_kernels = true;
#else
const bool hvl_tvm_kernels = false;
#endif

}  // namespace hvl

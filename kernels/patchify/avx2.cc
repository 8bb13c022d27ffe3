#define HVL_VARIANT(name) name##_avx2
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_avx2
#include "kernels/patchify/tvm_body.h"

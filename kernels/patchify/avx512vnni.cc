#define HVL_VARIANT(name) name##_avx512vnni
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_avx512vnni
#include "kernels/patchify/tvm_body.h"

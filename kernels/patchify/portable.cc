#define HVL_VARIANT(name) name##_portable
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_portable
#include "kernels/patchify/tvm_body.h"

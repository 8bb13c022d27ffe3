#define HVL_VARIANT(name) name##_neondot
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_neondot
#include "kernels/patchify/tvm_body.h"

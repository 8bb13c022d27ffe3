#define HVL_VARIANT(name) name##_neondot
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_neondot
#define HVL_TVM_PIXELS 4  // pixels of vrc_pointwise: targets.py
#include "kernels/vrc/tvm_body.h"

#define HVL_VARIANT(name) name##_neondot
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_neondot
#define HVL_TVM_SPAN 16  // bytes of resize_vertical: 4 vectors of targets.py
#define HVL_TVM_OUTPUTS 1  // pixels of a vector of resize_horizontal
#include "kernels/resize/tvm_body.h"

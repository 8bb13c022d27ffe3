#define HVL_VARIANT(name) name##_avx2
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_avx2
#define HVL_TVM_SPAN 32  // bytes of resize_vertical: 4 vectors of targets.py
#define HVL_TVM_OUTPUTS 2  // pixels of a vector of resize_horizontal
#include "kernels/resize/tvm_body.h"

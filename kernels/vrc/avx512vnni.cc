#define HVL_VARIANT(name) name##_avx512vnni
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_avx512vnni
#define HVL_TVM_PIXELS 8  // pixels of vrc_pointwise: targets.py
#include "kernels/vrc/tvm_body.h"

#define HVL_VARIANT(name) name##_neondot
#define HVL_TVM_FUNCTION(name) hvl_tvm_##name##_neondot
#define HVL_TVM_PIXELS 4  // pixels of vrc_pointwise: targets.py
#define HVL_TVM_CHANNELS 16  // that vrc_depthwise_wide takes at a time: 4 vectors of targets.py
#include "kernels/vrc/tvm_body.h"

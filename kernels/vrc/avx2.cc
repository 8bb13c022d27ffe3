#define HVL_VARIANT(name) name##_avx2
#include "kernels/vrc/tvm_body.h"

#define HVL_VARIANT(name) name##_avx2
#include "kernels/resize/tvm_body.h"

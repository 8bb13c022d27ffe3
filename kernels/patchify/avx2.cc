#define HVL_VARIANT(name) name##_avx2
#include "kernels/patchify/tvm_body.h"

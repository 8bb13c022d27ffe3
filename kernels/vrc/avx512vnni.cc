#define HVL_VARIANT(name) name##_avx512vnni
#include "kernels/vrc/tvm_body.h"

#define HVL_VARIANT(name) name##_avx512vnni
#include "kernels/resize/tvm_body.h"

#define HVL_VARIANT(name) name##_avx512vnni
#include "kernels/patchify/tvm_body.h"

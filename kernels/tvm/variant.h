// What avx2.cc and avx512vnni.cc of a TVM kernel's folder share. They define HVL_VARIANT (and HVL_TVM_FUNCTION), then include tvm_body.h.
// A build without TVM compiles reference.cc under the variants' names: slower, the same results.
#pragma once

#ifndef HVL_VARIANT
#define HVL_VARIANT(name) name##_reference
#endif

// The resize variants of one instruction set: calls into the objects TVM compiled, or, in a build without TVM, the reference body.
// Included by avx2.cc and avx512vnni.cc, which define HVL_VARIANT.
#include "kernels/resize/reference.cc"

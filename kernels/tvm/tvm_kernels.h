#pragma once

namespace hvl {

// True when the avx2 and avx512vnni variants of the image and VRC kernels were compiled by TVM, false when they are the reference bodies.
extern const bool hvl_tvm_kernels;

}  // namespace hvl

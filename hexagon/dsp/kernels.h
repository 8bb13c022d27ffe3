// The kernels of the program on the DSP.
#pragma once

#include "kernels/registry.h"

// Those that are written in HVX (kernels/*/hexagon_hvx.cc: kernel_hvx); the others are the plain C++ of the integer arithmetic, or the
// reference of what is integer in any case.  X(isa, kernel, Args), as in kernels/registry.h
#define HVL_HVX_KERNELS(X, isa)

namespace hvl {

const KernelTable& dsp_kernels();

}  // namespace hvl

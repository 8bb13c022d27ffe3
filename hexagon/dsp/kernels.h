// The kernels of the program on the DSP.
#pragma once

#include "kernels/registry.h"

namespace hvl {

const KernelTable& dsp_kernels();

}  // namespace hvl

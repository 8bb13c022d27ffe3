// What this processor can run, and which kernels were chosen for it.
#pragma once

#include <string>
#include <vector>

#include "kernels/variants.h"

namespace hvl {

// Names of the instruction-set features that matter to us and that processor and operating system support.
const std::vector<std::string>& cpu_features();

// Instruction sets that kernels may use here, in rising order of preference; never empty.
const std::vector<Isa>& available_isas();

// The instruction set in use: the best available one, or the one HVL_FORCE_ISA names (read once, at the first call).
// Throws Error(kValue) when that name is unknown or this processor lacks it.
Isa selected_isa();

// Finds an instruction set by name; throws Error(kValue) when it is unknown or not available here.
Isa isa_from_name(const std::string& name);

}  // namespace hvl

// Whether a Program that came over the wire may be run.
#pragma once

#include <string>

#include "csrc/runtime/executable.h"

namespace hvl {

// What a Program of the integer arithmetic must fulfil so that planning and running it touch nothing but its operands, whatever the bytes of
// its weights: ids in range, operands of the kernels' types and shapes, sizes of 31 bits. (ProgramBuilder makes no others.) Returns what is
// wrong, or an empty string. The Plan is checked after it (plan_fault), scalars and bound buffers by every run.
std::string program_fault(const Program& program);

std::string state_fault(const StateShape& shape);

// Ids of the tokens of a run, which lie in a bound buffer: below the rows of the embedding (negative: an image's place).
std::string ids_fault(const Executable& executable, const RunArgs& args, const RunScalars& run);

}  // namespace hvl

// Fits a Program into fast memory.
#pragma once

#include "csrc/schedule/hardware_spec.h"
#include "csrc/schedule/plan.h"

namespace hvl {

// The Plan of least predicted time (and, among equals, traffic and footprint: csrc/schedule/cost.h) whose fast memory stays within `budget` bytes.
// Deterministic.
// Throws Error(kMemory) naming the smallest budget that works, when this one does not.
Plan make_plan(const Program& program, const HardwareSpec& spec, int64_t budget);

// The smallest budget, in bytes, for which make_plan succeeds.
int64_t smallest_budget(const Program& program, const HardwareSpec& spec);

}  // namespace hvl

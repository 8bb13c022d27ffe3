// From the choices of the scheduler to a complete Plan: homes, windows, blocks of units, scratch, and where everything lies.
#pragma once

#include <vector>

#include "csrc/schedule/access.h"
#include "csrc/schedule/plan.h"

namespace hvl {

// What the search decides; the rest of a Plan follows from it.
struct Layout {
  std::vector<PlanGroup> groups;
  std::vector<bool> resident;  // by buffer: its home is fast memory, when several groups use it. Else DDR
  int64_t slot_bytes = 0;      // of the ring
  int64_t bytes = 0;           // of fast memory, if everything packs without gaps
  double seconds = 0;          // estimated
};

// How an op's steps are cut so that a step's streamed block fits a slot of the ring (or, at the least, the whole ring). `smallest`:
// streamed bytes of a step of one unit and one chunk of keys (smallest_stream). False when even that does not fit.
bool choose_blocks(const Program& program, const HardwareSpec& spec, int32_t op, bool streams_kv, int64_t slot_bytes, int64_t smallest,
                   PlanOp* block);
int64_t smallest_stream(const Program& program, int32_t op);  // attention: over K/V in DDR

// Bytes of a buffer's window in a group, 0 when the group does not use it through one.
int64_t window_bytes(const Program& program, const PlanGroup& group, BufferId buffer);

// `start`: a Plan with the fields that do not depend on the layout.
Plan place(const Program& program, const HardwareSpec& spec, const Layout& layout, const Plan& start);

}  // namespace hvl

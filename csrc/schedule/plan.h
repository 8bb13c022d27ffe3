// A Plan: how a Program runs in fast memory of a given size. Plain data.
//
// Consecutive ops of a section form groups. A group runs block by block: `block_rows` rows go through all its ops before the next rows do, so
// what only the group uses needs memory for one block (a window). Buffers used by several groups have a home: fast memory for their whole
// life (resident), or DDR. A staged device's kernels see fast memory only: rows of DDR buffers pass through windows, weights and KV caches
// are streamed through a ring of two slots, small operands through an op's scratch. csrc/schedule/steps.h says in which order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "csrc/program/program.h"
#include "csrc/schedule/hardware_spec.h"

namespace hvl {

inline constexpr int32_t kPlanVersion = 2;   // raise when the meaning of a Plan, or the order of its steps, changes
inline constexpr int64_t kPlanAlignment = 128;  // of everything in fast memory and in the DDR arena
inline int64_t plan_aligned(int64_t bytes) { return (bytes + kPlanAlignment - 1) / kPlanAlignment * kPlanAlignment; }

enum class Home : uint8_t {
  kNone,      // used by one group only: exists block by block, in that group's window
  kResident,  // whole, in fast memory
  kDdr,       // whole, in the plan's DDR arena
  kBound,     // whole, where the caller of each run says
};

struct BufferPlan {
  Home home = Home::kNone;
  int64_t offset = 0;  // kResident: in fast memory; kDdr: in the DDR arena
};

struct PlanGroup {
  int32_t section = 0;
  int32_t first_op = 0;  // of the Program
  int32_t op_count = 0;
  int32_t block_rows = 0;
};

// Rows of a buffer, in fast memory while a block of a group runs.
struct Window {
  int32_t group = 0;
  BufferId buffer = kNone;
  int64_t offset = 0;
  int64_t bytes = 0;
};

struct PlanOp {
  int32_t block_units = 0;     // kLinear: blocks of 32 outputs a step; kAttention on a staged device: K/V heads a step; else 0
  int32_t block_keys = 0;      // kAttention over K/V in DDR on a staged device: keys a step, a multiple of 256; else 0
  int64_t scratch_offset = 0;  // fast memory of the op's own
  int64_t scratch_bytes = 0;
};

struct Plan {
  int32_t version = kPlanVersion;
  uint64_t program = 0;         // program_hash
  std::string spec;             // name
  bool staged = false;
  int32_t contexts = 1;         // threads that attention's scratch is for
  int64_t budget = 0;           // bytes of fast memory
  int64_t peak_bytes = 0;       // of them used at the highest point; aligned to kPlanAlignment
  int64_t ddr_bytes = 0;        // of the DDR arena
  int64_t ring_offset = 0;      // staged: two slots of ring_slot_bytes, one behind the other
  int64_t ring_slot_bytes = 0;
  std::vector<PlanGroup> groups;     // in the order they run
  std::vector<PlanOp> ops;           // by op of the Program
  std::vector<BufferPlan> buffers;   // by buffer of the Program
  std::vector<Window> windows;       // by group, then buffer
};

int32_t group_of(const Plan& plan, int32_t op);  // index of the group that an op of the Program belongs to

// A stretch of fast memory and the ops (indices of the Program, inclusive) during which it must keep its content.
struct Allocation {
  enum class Kind : uint8_t { kResident, kWindow, kScratch, kRing } kind;
  int32_t index;  // buffer, window, op, or 0
  int64_t offset, bytes;
  int32_t first_op, last_op;
};
std::vector<Allocation> allocations(const Program& program, const Plan& plan);

// Everything a Plan must fulfil before the executor may run it: sizes, groups in order, blocks that fit their windows and slots, no two live
// allocations on the same byte, nothing beyond the budget. What is wrong, or an empty string; check_plan throws Error(kValue) with it. Plans
// from files and messages pass through here.
std::string plan_fault(const Program& program, const Plan& plan);
void check_plan(const Program& program, const Plan& plan);

uint64_t plan_hash(const Plan& plan);

}  // namespace hvl

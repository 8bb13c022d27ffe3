// How long a Plan should take on a machine, step by step: the scheduler's objective and what `hypervl-engine plan` shows.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/schedule/hardware_spec.h"
#include "csrc/schedule/plan.h"
#include "csrc/schedule/steps.h"

namespace hvl {

// What of a Program's memory stays in the machine's caches: the buffers that its ops hand on to each other, or all it touches, so that
// the next run finds it there.
struct Cached {
  bool buffers = false, all = false;
};
Cached cached(const Program& program, const Plan& plan, const HardwareSpec& spec);

// Seconds of one kernel step: max(arithmetic / rates, bytes the kernel itself reads from DDR / bandwidth) + launch. On a staged device the
// kernel reads fast memory only.
double step_seconds(const Program& program, const Plan& plan, const HardwareSpec& spec, const Cached& in_cache, const Step& step);

// Seconds the transfer engine needs for a list of transfers.
double list_seconds(const HardwareSpec& spec, int64_t bytes, int32_t items);

// One kernel step or one transfer, predicted or measured. Times from the start of the run.
struct TraceEvent {
  bool transfer = false;
  bool store = false;
  Step step;  // the kernel step, or the step the transfer is for
  double start_s = 0, duration_s = 0;
  int64_t bytes = 0;  // of a transfer (all items of one list together)
  int32_t items = 0;  // transfers in it
};

struct OpCost {
  double seconds = 0;  // wall time attributed to the op: its kernels, and what they waited for transfers
  double compute_s = 0, transfer_s = 0;
  int64_t bytes_in = 0, bytes_out = 0;
  int64_t transfers = 0, steps = 0;
};

// What the scheduler makes least: predicted time and, to choose among plans that take the same, a little of the transfer engine's own time,
// because moved bytes cost power.
inline constexpr double kTransferWeight = 1.0 / 32;

struct PlanCost {
  double seconds = 0, compute_s = 0, transfer_s = 0;
  double objective() const { return seconds + kTransferWeight * transfer_s; }
  int64_t bytes_in = 0, bytes_out = 0, transfers = 0;
  std::vector<OpCost> ops;  // by op of the Program, all repetitions and blocks
};

// Walks the Plan with one transfer engine beside the contexts. `events`, when given, gets every event of the first `max_repetitions`
// repetitions of each section (the totals count all).
PlanCost simulate(const Program& program, const Plan& plan, const HardwareSpec& spec, const RunScalars& run,
                  std::vector<TraceEvent>* events = nullptr, int32_t max_repetitions = 1 << 30);

}  // namespace hvl

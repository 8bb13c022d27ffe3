// Runs Executables with the kernels of one instruction set, exactly as their Plans say, over a thread pool.
#pragma once

#include <vector>

#include "csrc/base/thread_pool.h"
#include "csrc/runtime/cancel.h"
#include "csrc/runtime/executable.h"
#include "csrc/runtime/transfers.h"
#include "csrc/schedule/cost.h"
#include "kernels/registry.h"

namespace hvl {

// The two arenas of a run: at least plan.budget and plan.ddr_bytes bytes.
struct RunMemory {
  uint8_t* fast = nullptr;
  uint8_t* ddr = nullptr;
};

// Called before and behind every kernel step.
struct StepHook {
  void (*call)(void* context, const Step& step, bool behind) = nullptr;
  void* context = nullptr;
};

// What a run may be watched with.
struct RunWatch {
  std::vector<TraceEvent>* trace = nullptr;            // measured times are appended; then every step is handed to the threads by itself
  TransferStats* transfers = nullptr;
  const std::vector<DdrRange>* unreadable = nullptr;   // staged: DDR that no kernel may touch
  bool eager_transfers = false;                        // staged: see dma.h
  StepHook step;                                       // a device's own counting
};

class Executor {
 public:
  Executor(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  // Allocates nothing unless it is watched. False when cancelled.
  bool run(const Executable& executable, const RunArgs& args, const RunMemory& memory, const CancelCheck& cancel, const RunWatch& watch) const;

 private:
  struct Frame;
  class Ring;
  void run_op(const Frame& frame) const;
  LinearArgs linear_args(const Frame& frame) const;
  StepCursor run_linears(Frame& frame, StepCursor cursor) const;
  void run_attention(const Frame& frame) const;
  template <typename Args>
  void launch(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, int32_t begin, int32_t end) const;

  template <typename Args>
  void launch_rows(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, const Frame& frame) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
};

}  // namespace hvl

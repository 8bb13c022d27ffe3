// Runs Executables with the kernels of one instruction set, in an arena, over a thread pool.
#pragma once

#include <atomic>

#include "csrc/base/arena.h"
#include "csrc/base/thread_pool.h"
#include "csrc/runtime/executable.h"
#include "kernels/registry.h"

namespace hvl {

// Asked between the repetitions of a section (layers); true: stop.
struct CancelCheck {
  bool (*requested)(void* context) = nullptr;
  void* context = nullptr;
};

class Executor {
 public:
  Executor(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  // The arena must hold at least executable.plan.arena_bytes. Allocates nothing. False when cancelled.
  bool run(const Executable& executable, const RunArgs& args, uint8_t* arena, const CancelCheck& cancel) const;

 private:
  struct Frame;
  void run_op(const Op& op, const Frame& frame) const;
  template <typename Args>
  void launch(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, int32_t units) const;

  const KernelTable& kernels_;
  ThreadPool& pool_;
};

}  // namespace hvl

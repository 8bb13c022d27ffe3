// Resizes images as Pillow does.
#pragma once

#include <cstdint>

#include "csrc/base/arena.h"
#include "csrc/base/thread_pool.h"
#include "csrc/runtime/cancel.h"
#include "kernels/registry.h"
#include "kernels/resize/resize_taps.h"

namespace hvl {

// How images of one size become images of another: taps of an axis that keeps its size are empty.
struct Resizing {
  int32_t in_height = 0, in_width = 0, height = 0, width = 0;
  ResizeTaps across, down;

  int64_t in_bytes() const { return int64_t(in_height) * in_width * 3; }
  int64_t out_bytes() const { return int64_t(height) * width * 3; }
};

enum class Resized { kDone, kCancelled, kNoRoom };

// A strip of lines at a time, so that what lies between the two passes stays in a cache; keeps that memory between calls.
class Resizer {
 public:
  Resizer(const KernelTable& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}
  // out: (height, width, 3). kNoRoom: there is no memory for what lies between.
  Resized resize(const uint8_t* rgb, const Resizing& how, uint8_t* out, const CancelCheck& cancel);

 private:
  const KernelTable& kernels_;
  ThreadPool& pool_;
  Arena strips_;  // of all threads
};

}  // namespace hvl

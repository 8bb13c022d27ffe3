// The engine that moves bytes between DDR and fast memory while kernels run. Two implementations, chosen by the build: dma_copies.cc (this
// machine's copies) and hexagon/device/dma.cc (the NPU's user DMA).
#pragma once

#include <cstdint>

namespace hvl {

// Rows of bytes, each a stride behind the one before.
struct DmaBlock {
  uint8_t* to;
  const uint8_t* from;
  int64_t rows, row_bytes, to_stride, from_stride;
};

// A ring of blocks in flight. An engine reads its source at any time between push and pop, and nothing may be expected of the target before.
class DmaRing {
 public:
  // A block's number, from 0 on.
  using Ticket = uint32_t;
  static constexpr uint32_t kMost = 32;  // in flight at once

  // eager: copies, where the engine is one of copies, happen at push instead of pop. A plan that lets somebody write the source in between, or
  // read the target before, gives different results in one of the two: tests run both.
  explicit DmaRing(bool eager);
  ~DmaRing();  // what is in flight lands, or never will
  DmaRing(const DmaRing&) = delete;
  DmaRing& operator=(const DmaRing&) = delete;

  // Starts a block. Error kRuntime when the ring is full.
  Ticket push(const DmaBlock& block);
  // Waits until blocks first .. end - 1 have landed; others perhaps have not. Each is popped once.
  void pop(Ticket first, Ticket end);
  Ticket next() const { return pushed_; }

 private:
  struct Engine;
  alignas(64) uint8_t room_[4096];  // of the engine
  Engine& engine_;
  Ticket pushed_ = 0;
};

}  // namespace hvl

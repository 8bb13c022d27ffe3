// An engine of copies, which are made as late as they may be: when a block is popped, and only that one. Whoever forgets to wait finds old bytes.
#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "csrc/base/error.h"
#include "csrc/runtime/dma.h"

namespace hvl {

struct DmaRing::Engine {
  struct Flight {
    bool used;
    Ticket ticket;
    DmaBlock block;
  };
  const bool eager;
  std::array<Flight, kMost> flights;

  static void copy(const DmaBlock& b) {
    for (int64_t r = 0; r < b.rows; ++r) std::memcpy(b.to + r * b.to_stride, b.from + r * b.from_stride, size_t(b.row_bytes));
  }
};

DmaRing::DmaRing(bool eager) : engine_(*new (room_) Engine{eager, {}}) { static_assert(sizeof(Engine) <= sizeof room_); }

DmaRing::~DmaRing() = default;

DmaRing::Ticket DmaRing::push(const DmaBlock& block) {
  const auto free = std::find_if(engine_.flights.begin(), engine_.flights.end(), [](const Engine::Flight& f) { return !f.used; });
  if (free == engine_.flights.end()) fail(ErrorKind::kRuntime, "more than ", kMost, " transfers at once");
  *free = {true, pushed_, block};
  if (engine_.eager) Engine::copy(block);
  return pushed_++;
}

void DmaRing::pop(Ticket first, Ticket end) {
  for (Engine::Flight& f : engine_.flights) {
    if (!f.used || f.ticket - first >= end - first) continue;
    if (!engine_.eager) Engine::copy(f.block);
    f.used = false;
  }
}

}  // namespace hvl

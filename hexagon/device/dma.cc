// The ring over user DMA: one engine for each hardware thread, here that of the thread which runs the program. A ring's blocks may take several
// descriptors, which are linked behind one another in a ring of their own. Compiled only: QEMU has no user DMA.
#include <algorithm>
#include <new>

#include "csrc/base/error.h"
#include "csrc/runtime/dma.h"
#include "hexagon/device/dma_descriptors.h"

namespace hvl {
namespace {

constexpr auto kGeneration = __HEXAGON_ARCH__ >= 75 ? DmaGeneration::kWide : DmaGeneration::kNarrow;
constexpr uint32_t kDescriptors = 64;
constexpr uint32_t kEngineFailed = 2;  // of the two lowest bits that dmpoll and dmwait give

uint32_t address(const void* p) { return uint32_t(reinterpret_cast<uintptr_t>(p)); }

// What was written to the descriptor, and to the source, is written before the engine reads it.
void start(DmaDescriptor* d) { asm volatile("release(%0):at\n\tdmstart(%0)" ::"r"(d) : "memory"); }
void link(DmaDescriptor* last, DmaDescriptor* d) { asm volatile("release(%1):at\n\tdmlink(%0, %1)" ::"r"(last), "r"(d) : "memory"); }
uint32_t poll() {
  uint32_t status;
  asm volatile("%0 = dmpoll" : "=r"(status)::"memory");
  return status;
}
void wait_for_all() {
  uint32_t status;
  asm volatile("%0 = dmwait" : "=r"(status)::"memory");
}

}  // namespace

struct DmaRing::Engine {
  DmaDescriptor descriptors[kDescriptors];
  DmaDescriptor* last = nullptr;  // linked
  uint32_t begun = 0, landed = 0;  // descriptors, of all blocks
  uint32_t ends[kMost];            // number behind the last descriptor of a block

  // Descriptors up to this number have landed. They do so in any order, so each is looked at.
  void wait(uint32_t end) {
    for (; int32_t(end - landed) > 0; ++landed) {
      while (!descriptors[landed % kDescriptors].done()) {
        if ((poll() & 3) == kEngineFailed) fail(ErrorKind::kRuntime, "the DMA engine reports an error");
      }
    }
  }

  void begin(const DmaDescriptor& filled) {
    if (begun - landed == kDescriptors - 1) wait(landed + 1);  // one is kept: the last is linked to the next
    DmaDescriptor* d = &descriptors[begun++ % kDescriptors];
    *d = filled;
    if (last) {
      link(last, d);
    } else {
      start(d);
    }
    last = d;
  }
};

DmaRing::DmaRing(bool) : engine_(*new (room_) Engine{}) { static_assert(sizeof(Engine) <= sizeof room_ && alignof(Engine) <= 64); }

DmaRing::~DmaRing() {
  if (engine_.last) wait_for_all();
}

DmaRing::Ticket DmaRing::push(const DmaBlock& b) {
  const bool dense = b.rows <= 1 || (b.to_stride == b.row_bytes && b.from_stride == b.row_bytes);
  if (!dense && b.row_bytes > 0 && fits_descriptor(kGeneration, uint64_t(b.rows), uint64_t(b.row_bytes), uint64_t(b.to_stride), uint64_t(b.from_stride))) {
    engine_.begin(strided_descriptor(kGeneration, address(b.to), address(b.from), uint32_t(b.rows), uint32_t(b.row_bytes), uint32_t(b.to_stride),
                                     uint32_t(b.from_stride)));
  } else if (b.row_bytes > 0) {
    const int64_t rows = dense ? std::min<int64_t>(b.rows, 1) : b.rows, bytes = dense ? b.rows * b.row_bytes : b.row_bytes;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t at = 0; at < bytes; at += kMostDmaBytes) {
        engine_.begin(linear_descriptor(address(b.to + r * b.to_stride + at), address(b.from + r * b.from_stride + at),
                                        uint32_t(std::min<int64_t>(bytes - at, kMostDmaBytes))));
      }
    }
  }
  engine_.ends[pushed_ % kMost] = engine_.begun;
  return pushed_++;
}

void DmaRing::pop(Ticket first, Ticket end) {
  if (first != end) engine_.wait(engine_.ends[(end - 1) % kMost]);
}

}  // namespace hvl

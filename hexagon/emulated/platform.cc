// The machine under the DSP program where it is emulated, or runs on the host: fast memory between guard pages; the host's buffers are files
// of the process that started this one.
#include "hexagon/dsp/platform.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csrc/base/arena.h"
#include "csrc/base/error.h"
#include "csrc/runtime/watermark.h"

namespace hvl {
namespace {

// Bytes of fast memory that the machine has: HVL_EMULATED_VTCM, or as many as are asked for.
size_t machine_bytes() {
  const char* given = getenv("HVL_EMULATED_VTCM");
  return given ? size_t(strtoul(given, nullptr, 10)) : SIZE_MAX;
}

}  // namespace

struct FastMemory::State {
  Arena arena;
  Watermark touched;
};

FastMemory::FastMemory() = default;
FastMemory::~FastMemory() = default;

std::string FastMemory::reserve(size_t bytes) {
  auto state = std::make_unique<State>();
  if (bytes > machine_bytes()) return joined("no ", bytes, " bytes of fast memory: this machine has ", machine_bytes());
  if (!Arena::make(bytes, state->arena)) return joined("no ", bytes, " bytes of fast memory");
  state_ = std::move(state);
  bytes_ = bytes;
  return {};
}

uint8_t* FastMemory::acquire(size_t end) {
  state_->touched.expect(state_->arena.data(), int64_t(end));
  return state_->arena.data();
}

int64_t FastMemory::release() { return state_->touched.measure(state_->arena.data(), int64_t(bytes_)); }

Counts read_counters() { return qemu_counters(); }

bool HostBuffer::map(int32_t fd, size_t bytes) {
  const int file = open(joined("/proc/", getppid(), "/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  struct stat status;
  void* data = MAP_FAILED;
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == off_t(bytes)) {
    data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
  }
  close(file);
  if (data == MAP_FAILED) return false;
  data_ = static_cast<const uint8_t*>(data);
  bytes_ = bytes;
  fd_ = fd;
  return true;
}

HostBuffer::~HostBuffer() {
  if (data_) munmap(const_cast<uint8_t*>(data_), bytes_);
}

}  // namespace hvl

// What the program on the DSP takes from the machine under it. Two implementations, chosen by the build: hexagon/device and hexagon/emulated.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>

#include "hexagon/dsp/counters.h"

namespace hvl {

// The NPU's memory next to its vector units.
class FastMemory {
 public:
  FastMemory();
  ~FastMemory();

  // Once: that many bytes, in one piece. Returns what is wrong, or an empty string.
  std::string reserve(size_t bytes);
  size_t bytes() const { return bytes_; }

  // Ours from here to release(); what is in it does not last beyond. Null when somebody else keeps it. end: bytes from its beginning that are
  // going to be used.
  uint8_t* acquire(size_t end);
  // Returns where the highest byte ends that anything has ever written, or 0 where that is not measured.
  int64_t release();

 private:
  struct State;
  std::unique_ptr<State> state_;
  size_t bytes_ = 0;
};

// Memory of the host that it has shared with this program under the number of a file.
class HostBuffer {
 public:
  HostBuffer() = default;
  ~HostBuffer();
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  // Once. False when there is no such buffer, or (emulated; a device cannot tell) it has another size.
  bool map(int32_t fd, size_t bytes);
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  int32_t fd_ = -1;
};

// What the calling thread has executed. Zeros where nothing counts it.
Counts read_counters();

}  // namespace hvl

// How much of a memory has been written: what is going to be used is filled with a pattern beforehand, and the rest holds zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace hvl {

class Watermark {
 public:
  // Before bytes 0 .. end - 1 of `memory` (8-byte aligned, zeroed when it was made) are used.
  void expect(uint8_t* memory, int64_t end) {
    if (end <= filled_) return;
    std::memset(memory + filled_, kPattern, size_t(end - filled_));
    filled_ = end;
  }

  // Where the highest byte ends, of `bytes`, that anything has written; rounded up to 128.
  int64_t measure(const uint8_t* memory, int64_t bytes) const {
    const int64_t beyond = top(memory, filled_, bytes, 0);
    return (std::max(beyond > filled_ ? beyond : top(memory, 0, filled_, kPattern), int64_t{0}) + 127) / 128 * 128;
  }

 private:
  static constexpr uint8_t kPattern = 0xa5;

  // The end of what differs from `value`.
  static int64_t top(const uint8_t* memory, int64_t from, int64_t to, uint8_t value) {
    const uint64_t eight = value * 0x0101010101010101u;
    while (to > from && memory[to - 1] == value) {
      uint64_t last = 0;
      if (to % 8 == 0 && to - from >= 8) {
        std::memcpy(&last, memory + to - 8, 8);
        if (last == eight) {
          to -= 8;
          continue;
        }
      }
      --to;
    }
    return to;
  }

  int64_t filled_ = 0;
};

}  // namespace hvl

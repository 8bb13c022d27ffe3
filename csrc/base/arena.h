// Memory that is sized once, before anything runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "csrc/base/error.h"

namespace hvl {

// A block of zeroed memory aligned to 64 bytes (large blocks come straight from the system, untouched pages cost nothing).
class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    block_.reset(static_cast<uint8_t*>(std::calloc(bytes + kAlignment, 1)));
    if (!block_) fail(ErrorKind::kMemory, "could not allocate ", bytes, " bytes");
    const auto address = reinterpret_cast<uintptr_t>(block_.get());
    data_ = block_.get() + (kAlignment - address % kAlignment) % kAlignment;
  }
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> block_;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace hvl

// Memory for one buffer of a kernel's call, in which mistakes show.
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hexagon/test_server/kernel_call.h"

namespace hvl {

// [no access][ ... 0xcd ... data of `bytes` | 0xa5 up to a multiple of 128][no access]. A kernel may read the bytes after its data in the
// last vector, and writes to them are found afterwards; beyond it, any access ends the process.
class GuardedBuffer {
 public:
  GuardedBuffer() = default;
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;
  ~GuardedBuffer() {
    if (base_) munmap(base_, mapped());
  }

  bool allocate(uint32_t bytes) {
    page_ = uint32_t(sysconf(_SC_PAGESIZE));
    const uint32_t vectors = (bytes + 127) / 128 * 128;
    inner_ = (vectors + page_ - 1) / page_ * page_;
    void* base = mmap(nullptr, mapped(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
    base_ = static_cast<uint8_t*>(base);
    if (inner_ && mprotect(base_ + page_, inner_, PROT_READ | PROT_WRITE)) return false;
    buffer_ = {base_ + page_ + inner_ - vectors, bytes};
    memset(buffer_.data, 0xcd, bytes);
    memset(buffer_.data + bytes, 0xa5, vectors - bytes);
    return true;
  }

  bool make_read_only() { return !inner_ || mprotect(base_ + page_, inner_, PROT_READ) == 0; }

  bool overrun() const {
    for (const uint8_t* at = buffer_.data + buffer_.bytes; at != base_ + page_ + inner_; ++at) {
      if (*at != 0xa5) return true;
    }
    return false;
  }

  const Buffer& buffer() const { return buffer_; }

 private:
  uint32_t mapped() const { return inner_ + 2 * page_; }

  uint8_t* base_ = nullptr;
  uint32_t page_ = 0, inner_ = 0;
  Buffer buffer_ = {nullptr, 0};
};

}  // namespace hvl

// Memory that is sized once, before anything runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hvl {

struct UnmapPages {
  size_t bytes = 0;
  void operator()(uint8_t* p) const;
};

// A block of zeroed memory between two pages that fault when touched. It begins at a multiple of 128 and its end, rounded up to 128, meets
// the second of them. Untouched pages cost nothing. Throws Error(kMemory).
class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t bytes);
  static bool make(size_t bytes, Arena& arena);  // false instead of an error

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<uint8_t, UnmapPages> map_;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Makes the whole pages inside a stretch of memory unreadable, or readable (and writable) again: how tests see that nothing reads it.
void protect_pages(const void* data, size_t bytes, bool readable, bool writable);

}  // namespace hvl

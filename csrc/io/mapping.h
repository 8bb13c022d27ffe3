// Memory from mmap: a file read-only, a new file being written, or private memory. Owns it; moves, never copies.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <string>

namespace hvl {

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Mapping();

  // A whole file, shared with every process that maps it. Whoever truncates the file in place afterwards makes later reads raise
  // SIGBUS: the engine itself only ever replaces cache files by renaming, which leaves this mapping whole. Error kNotFound / std::system_error.
  // `identity`, where given, gets what changes whenever the file is replaced or written to: device, inode, size, times of change.
  static Mapping read_file(const std::string& path, std::string* identity = nullptr);

  // A new file (it must not exist) with its blocks reserved, so that a full disk shows here (std::system_error) and not as SIGBUS later.
  static Mapping create_file(const std::string& path, size_t bytes);

  // Zeroed private memory, in huge pages where the system offers them. Error kMemory.
  static Mapping private_memory(size_t bytes);

  // Replaces a stretch of a mapping by private memory in huge pages with the same content, as far as these go; where the system has no such memory,
  // nothing happens. Others may read it meanwhile: a part of it is replaced in one call of the system, for which whoever touches it waits.
  // wanted: asked before each part.
  void make_private(size_t offset, size_t bytes, const std::function<bool()>& wanted);

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // Waits until a created file is on the disk, then makes the memory read-only. std::system_error.
  void seal();

 private:
  void swap(Mapping& other) noexcept;

  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  int file_ = -1;  // of a created file, until sealed
};

}  // namespace hvl

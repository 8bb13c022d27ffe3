#include "csrc/io/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <system_error>
#include <utility>

#include "csrc/base/error.h"

namespace hvl {
namespace {

[[noreturn]] void fail_system(int code, const std::string& what) { throw std::system_error(code, std::generic_category(), what); }

// Closes a descriptor on every way out unless released.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
  int release() { return std::exchange(value, -1); }
};

constexpr size_t kHugePage = size_t(2) << 20;

// A file mapped for huge pages, from a boundary of one on, where its system keeps files in them (ext4 and xfs of recent Linux do): decode,
// which reads every weight a token, spends a twentieth of its time on page tables otherwise. MAP_FAILED and errno as mmap.
void* map_file(int file, size_t bytes, int access) {
  if (bytes < kHugePage) return mmap(nullptr, bytes, access, MAP_SHARED, file, 0);
  void* reserved = mmap(nullptr, bytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return reserved;
  auto* const start = static_cast<uint8_t*>(reserved);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  const size_t page = size_t(sysconf(_SC_PAGESIZE)), whole = (bytes + page - 1) / page * page;
  void* data = mmap(start + before, bytes, access, MAP_SHARED | MAP_FIXED, file, 0);
  const int error = errno;
  if (data == MAP_FAILED) {
    munmap(start, bytes + kHugePage);
    errno = error;
    return data;
  }
  if (before > 0) munmap(start, before);
  munmap(start + before + whole, kHugePage - before);
  return data;
}

std::string identity_of(const struct stat& info) {
  std::ostringstream out;
  out << info.st_dev << '.' << info.st_ino << '.' << info.st_size;
  for (const timespec& time : {info.st_mtim, info.st_ctim}) out << '.' << time.tv_sec << '.' << time.tv_nsec;
  return out.str();
}

}  // namespace

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (file_ >= 0) close(file_);
}

void Mapping::swap(Mapping& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(file_, other.file_);
}

Mapping Mapping::read_file(const std::string& path, std::string* identity) {
  Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) {
    if (errno == ENOENT) fail(ErrorKind::kNotFound, "no such file: ", path);
    fail_system(errno, path);
  }
  struct stat info;
  if (fstat(file.value, &info) != 0) fail_system(errno, path);
  if (!S_ISREG(info.st_mode)) fail(ErrorKind::kCheckpoint, path, " is not a regular file");
  if (identity != nullptr) *identity = identity_of(info);
  Mapping m;
  if (info.st_size == 0) return m;
  const size_t bytes = static_cast<size_t>(info.st_size);
  void* data = map_file(file.value, bytes, PROT_READ);
  if (data == MAP_FAILED) fail_system(errno, path);
  m.data_ = static_cast<uint8_t*>(data);
  m.bytes_ = bytes;
  // Reading ahead by huge pages or, where there are none, all of it: what is read ahead in small pages stays in them.
  if (bytes < kHugePage || madvise(data, bytes, MADV_HUGEPAGE) != 0) madvise(data, bytes, MADV_WILLNEED);
  return m;
}

Mapping Mapping::create_file(const std::string& path, size_t bytes) {
  Descriptor file{open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (file.value < 0) fail_system(errno, path);
  int error = posix_fallocate(file.value, 0, static_cast<off_t>(bytes));
  void* data = MAP_FAILED;
  if (error == 0) {
    data = map_file(file.value, bytes, PROT_READ | PROT_WRITE);
    if (data == MAP_FAILED) error = errno;
  }
  if (error != 0) {
    unlink(path.c_str());
    fail_system(error, path);
  }
  Mapping m;
  m.data_ = static_cast<uint8_t*>(data);
  m.bytes_ = bytes;
  m.file_ = file.release();
  madvise(data, bytes, MADV_HUGEPAGE);
  return m;
}

Mapping Mapping::private_memory(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) fail(ErrorKind::kMemory, "no memory for ", bytes, " bytes of weights");
  madvise(data, bytes, MADV_HUGEPAGE);
  Mapping m;
  m.data_ = static_cast<uint8_t*>(data);
  m.bytes_ = bytes;
  return m;
}

namespace {

// Private memory of `bytes`, a multiple of kHugePage, at a boundary of one; null where there is none.
uint8_t* huge_pages(size_t bytes) {
  void* reserved = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const start = static_cast<uint8_t*>(reserved);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  if (before > 0) munmap(start, before);
  munmap(start + before + bytes, kHugePage - before);
  if (madvise(start + before, bytes, MADV_HUGEPAGE) == 0) return start + before;
  munmap(start + before, bytes);
  return nullptr;
}

}  // namespace

void Mapping::make_private(size_t offset, size_t bytes, const std::function<bool()>& wanted) {
  constexpr size_t kSlice = 16 * kHugePage;  // so that never much is there twice
  const size_t skip = (kHugePage - offset % kHugePage) % kHugePage;
  if (reinterpret_cast<uintptr_t>(data_) % kHugePage != 0 || bytes < skip + kHugePage) return;
  uint8_t* const first = data_ + offset + skip;
  const size_t whole = (bytes - skip) / kHugePage * kHugePage;
  for (size_t at = 0; at < whole && wanted(); at += kSlice) {
    const size_t size = std::min(kSlice, whole - at);
    uint8_t* const copy = huge_pages(size);
    if (!copy) return;
    memcpy(copy, first + at, size);
    if (mprotect(copy, size, PROT_READ) == 0 && mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, first + at) != MAP_FAILED) continue;
    munmap(copy, size);
    return;
  }
}

void Mapping::seal() {
  if (file_ >= 0) {
    if (msync(data_, bytes_, MS_SYNC) != 0 || fsync(file_) != 0) fail_system(errno, "writing the packed weights");
    close(std::exchange(file_, -1));
  }
  if (mprotect(data_, bytes_, PROT_READ) != 0) fail_system(errno, "protecting the packed weights");
}

}  // namespace hvl

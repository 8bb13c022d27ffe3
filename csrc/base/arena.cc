#include "csrc/base/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include "csrc/base/error.h"

namespace hvl {
namespace {

constexpr size_t kAlignment = 128;
constexpr auto kMost = size_t(sizeof(size_t) == 8 ? uint64_t(1) << 46 : uint64_t(1) << 31);

size_t page_size() {
  static const auto size = size_t(sysconf(_SC_PAGESIZE));
  return size;
}

size_t up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Arena::Arena(size_t bytes) {
  if (!make(bytes, *this)) fail(ErrorKind::kMemory, "could not allocate ", bytes, " bytes");
}

bool Arena::make(size_t bytes, Arena& arena) {
  arena = {};
  if (bytes == 0) return true;
  const size_t page = page_size();
  if (bytes > kMost) return false;
  const size_t body = up(bytes, page), total = body + 2 * page;
  void* map = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return false;
  arena.map_ = std::unique_ptr<uint8_t, UnmapPages>(static_cast<uint8_t*>(map), UnmapPages{total});
  if (mprotect(arena.map_.get() + page, body, PROT_READ | PROT_WRITE) != 0) return false;
  arena.data_ = arena.map_.get() + page + (body - up(bytes, kAlignment));
  arena.bytes_ = bytes;
  return true;
}

void UnmapPages::operator()(uint8_t* p) const { munmap(p, bytes); }

void protect_pages(const void* data, size_t bytes, bool readable, bool writable) {
  const size_t page = page_size();
  const auto begin = up(reinterpret_cast<uintptr_t>(data), page), end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (end <= begin) return;
  const int access = readable ? PROT_READ | (writable ? PROT_WRITE : 0) : PROT_NONE;
  if (mprotect(reinterpret_cast<void*>(begin), end - begin, access) != 0) fail(ErrorKind::kRuntime, "could not change the protection of memory");
}

}  // namespace hvl

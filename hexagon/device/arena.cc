// Memory of the heap: no pages to guard it on the DSP.
#include "csrc/base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "csrc/base/error.h"

namespace hvl {
namespace {

constexpr size_t kAlignment = 128;

}  // namespace

Arena::Arena(size_t bytes) {
  if (!make(bytes, *this)) fail(ErrorKind::kMemory, "could not allocate ", bytes, " bytes");
}

bool Arena::make(size_t bytes, Arena& arena) {
  arena = {};
  if (bytes == 0) return true;
  if (bytes > (size_t(1) << 31)) return false;
  const size_t total = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  auto* memory = static_cast<uint8_t*>(malloc(total));
  if (!memory) return false;
  memset(memory, 0, total);
  arena.map_ = std::unique_ptr<uint8_t, UnmapPages>(memory, UnmapPages{total});
  arena.data_ = memory + (kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment);
  arena.bytes_ = bytes;
  return true;
}

void UnmapPages::operator()(uint8_t* p) const { free(p); }

void protect_pages(const void*, size_t, bool, bool) {}  // for tests of the host's executor only

}  // namespace hvl

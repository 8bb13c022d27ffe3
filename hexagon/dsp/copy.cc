// memcpy and memmove instead of ziglang's, whose copies of 64 to 255 bytes load whole vectors and so read up to 64 bytes behind their
// source: memory before a guard page; and memset, which there takes three packets a byte. Compiled with -fno-builtin, so that these loops do
// not become calls of themselves. Without vectors: threads of FastRPC come here that have no vector unit.
#include <stddef.h>
#include <stdint.h>

namespace {

using Word [[gnu::may_alias]] = uint64_t;

bool aligned(const void* a, const void* b) { return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % sizeof(Word)) == 0; }

}  // namespace

extern "C" void* memcpy(void* __restrict to, const void* __restrict from, size_t bytes) {
  auto* t = static_cast<uint8_t*>(to);
  const auto* f = static_cast<const uint8_t*>(from);
  if (aligned(t, f)) {
    for (; bytes >= sizeof(Word); bytes -= sizeof(Word), t += sizeof(Word), f += sizeof(Word)) {
      *reinterpret_cast<Word*>(t) = *reinterpret_cast<const Word*>(f);
    }
  }
  for (; bytes > 0; --bytes) *t++ = *f++;
  return to;
}

extern "C" void* memmove(void* to, const void* from, size_t bytes) {
  auto* t = static_cast<uint8_t*>(to);
  const auto* f = static_cast<const uint8_t*>(from);
  if (reinterpret_cast<uintptr_t>(t) <= reinterpret_cast<uintptr_t>(f)) {
    if (aligned(t, f)) {
      for (; bytes >= sizeof(Word); bytes -= sizeof(Word), t += sizeof(Word), f += sizeof(Word)) {
        *reinterpret_cast<Word*>(t) = *reinterpret_cast<const Word*>(f);
      }
    }
    for (; bytes > 0; --bytes) *t++ = *f++;
  } else {
    while (bytes > 0) {
      --bytes;
      t[bytes] = f[bytes];
    }
  }
  return to;
}

extern "C" void* memset(void* to, int value, size_t bytes) {
  auto* t = static_cast<uint8_t*>(to);
  for (; bytes > 0 && reinterpret_cast<uintptr_t>(t) % sizeof(Word) != 0; --bytes) *t++ = uint8_t(value);
  const Word word = uint8_t(value) * 0x0101010101010101u;
  for (; bytes >= sizeof(Word); bytes -= sizeof(Word), t += sizeof(Word)) *reinterpret_cast<Word*>(t) = word;
  for (; bytes > 0; --bytes) *t++ = uint8_t(value);
  return to;
}

// What the C++ code of the library takes from libc++ beyond its headers: there is no libc++ on the DSP that we could rely on.
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <chrono>
#include <new>
#include <string>

#include "csrc/base/error.h"

#pragma weak clock_gettime  // only traces need it, which a device takes none of

template class std::basic_string<char>;

void* operator new(size_t bytes) {
  void* memory = malloc(bytes > 0 ? bytes : 1);
  if (!memory) hvl::end_program(hvl::ErrorKind::kMemory, "out of memory");
  return memory;
}
void* operator new[](size_t bytes) { return operator new(bytes); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

// What over-aligned objects ask for (a whole number of vectors at most). The address of the block lies before them.
void* operator new(size_t bytes, std::align_val_t alignment) {
  const size_t unit = size_t(alignment);
  auto* memory = static_cast<char*>(operator new(bytes + unit + sizeof(void*)));
  auto at = (reinterpret_cast<uintptr_t>(memory) + sizeof(void*) + unit - 1) / unit * unit;
  reinterpret_cast<void**>(at)[-1] = memory;
  return reinterpret_cast<void*>(at);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  if (memory) free(static_cast<void**>(memory)[-1]);
}
void operator delete(void* memory, size_t, std::align_val_t alignment) noexcept { operator delete(memory, alignment); }

namespace std {
inline namespace __1 {

[[noreturn]] void __libcpp_verbose_abort(const char* format, ...) noexcept { hvl::end_program(hvl::ErrorKind::kRuntime, format); }

namespace chrono {

steady_clock::time_point steady_clock::now() noexcept {
  struct timespec time = {0, 0};
  if (clock_gettime) clock_gettime(CLOCK_MONOTONIC, &time);
  return time_point(seconds(time.tv_sec) + nanoseconds(time.tv_nsec));
}

}  // namespace chrono
}  // namespace __1
}  // namespace std

extern "C" {

// Nothing is destroyed when the library is unloaded: its one object outlives it on purpose.
int __cxa_atexit(void (*)(void*), void*, void*) { return 0; }
void* __dso_handle = nullptr;
void __cxa_pure_virtual() { hvl::end_program(hvl::ErrorKind::kRuntime, "a pure virtual function was called"); }

// A local static's first use: its first byte is 1 once it is made, its second while somebody makes it.
int __cxa_guard_acquire(uint8_t* guard) {
  for (;;) {
    if (__atomic_load_n(guard, __ATOMIC_ACQUIRE) != 0) return 0;
    if (__atomic_exchange_n(guard + 1, uint8_t(1), __ATOMIC_ACQUIRE) == 0) {
      if (__atomic_load_n(guard, __ATOMIC_ACQUIRE) == 0) return 1;
      __atomic_store_n(guard + 1, uint8_t(0), __ATOMIC_RELEASE);
      return 0;
    }
  }
}
void __cxa_guard_release(uint8_t* guard) {
  __atomic_store_n(guard, uint8_t(1), __ATOMIC_RELEASE);
  __atomic_store_n(guard + 1, uint8_t(0), __ATOMIC_RELEASE);
}

}  // extern "C"

// A copy that touches nothing else: memcpy of the C library reads up to 128 bytes beyond the end of short blocks, where no memory may be.
#pragma once

#include <stdint.h>

namespace hvl {

inline void copy_words(const void* from, void* to, int64_t words) {
  const auto* source = static_cast<const volatile int32_t*>(from);  // volatile: or it becomes memcpy
  auto* target = static_cast<int32_t*>(to);
  for (int64_t i = 0; i < words; ++i) target[i] = source[i];
}

}  // namespace hvl

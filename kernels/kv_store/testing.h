// Two numpy arrays as the KvCache of kernels/kv_store: for the tests of kv_store and attention.
#pragma once

#include "kernels/common/testing.h"
#include "kernels/kv_store/kv_store.h"

namespace hvl::testing {

// k: (kv_heads, capacity / 16, head_dim, 16), v: (kv_heads, capacity, head_dim); both float16 or both float32, writable.
inline KvCache cache_of(py::array& k, py::array& v) {
  require(k.ndim() == 4 && k.shape(3) == kKvKeyBlock, "k cache: expected (kv_heads, capacity / 16, head_dim, 16)");
  const py::ssize_t capacity = k.shape(1) * kKvKeyBlock;
  require(v.ndim() == 3 && v.shape(0) == k.shape(0) && v.shape(1) == capacity && v.shape(2) == k.shape(2),
          "v cache: expected (kv_heads, capacity, head_dim)");
  require(k.dtype().kind() == 'f' && v.dtype().kind() == 'f' && k.itemsize() == v.itemsize() && (k.itemsize() == 2 || k.itemsize() == 4),
          "caches: expected float16 or float32");
  require((k.flags() & py::array::c_style) != 0 && (v.flags() & py::array::c_style) != 0, "caches: expected C order");
  KvCache cache = {};
  cache.k = k.mutable_data();
  cache.v = v.mutable_data();
  cache.kv_heads = static_cast<std::int32_t>(k.shape(0));
  cache.head_dim = static_cast<std::int32_t>(k.shape(2));
  cache.capacity = static_cast<std::int32_t>(capacity);
  cache.bits = static_cast<std::int32_t>(k.itemsize() * 8);
  return cache;
}

}  // namespace hvl::testing

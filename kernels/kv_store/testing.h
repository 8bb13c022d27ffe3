// Two numpy arrays as the KvCache of kernels/kv_store: for the tests of kv_store and attention.
#pragma once

#include "kernels/common/testing.h"
#include "kernels/kv_store/kv_store.h"

namespace hvl::testing {

using ByteArray = py::array_t<std::uint8_t, py::array::c_style>;

// k, v: (kv_heads, capacity / 16, bytes of a block) uint8, writable.
inline KvCache cache_of(ByteArray& k, ByteArray& v, std::int32_t head_dim, std::int32_t bits) {
  require(bits == 8 || bits == 16, "bits: expected 8 or 16");
  require(head_dim > 0, "head_dim: expected 1 or more");
  require(k.ndim() == 3 && k.shape(2) == kv_block_bytes(head_dim, bits), "k cache: expected (kv_heads, capacity / 16, bytes of a block)");
  require_shape(v, "v cache", {k.shape(0), k.shape(1), k.shape(2)});
  return {k.mutable_data(), v.mutable_data(), static_cast<std::int32_t>(k.shape(0)), head_dim,
          static_cast<std::int32_t>(k.shape(1)) * kKvKeyBlock, bits};
}

}  // namespace hvl::testing

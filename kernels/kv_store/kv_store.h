// Writes keys and values into a KV cache (F16) or a tile's own K/V buffer (F32), in the layout attention reads.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hvl {

inline constexpr int32_t kKvKeyBlock = 16;

// k: [kv_head][capacity / 16][head_dim][16 keys]   (a vector of 16 keys for each d)
// v: [kv_head][capacity][head_dim]
struct KvCache {
  void* k;
  void* v;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t capacity;  // positions, a multiple of 16
  int32_t bits;      // 16: IEEE half, rounded to nearest even; 32: float
};

inline size_t kv_cache_side_bytes(int32_t kv_heads, int32_t head_dim, int32_t capacity, int32_t bits) {
  return size_t(kv_heads) * head_dim * capacity * (bits / 8);  // of k; v is as large
}

struct KvStoreArgs {
  const float* k;      // (rows, kv_heads * head_dim)
  const float* v;      // (rows, kv_heads * head_dim)
  int64_t kv_stride;   // floats, of both
  int32_t rows;
  int32_t position;    // where row 0 goes
  KvCache cache;
};
// Work unit: one kv head (all rows). Also zeroes the keys and values after the last row up to the next multiple of 16, so that
// attention may read whole blocks.

}  // namespace hvl

// Writes keys and values into a KV cache or a tile's own K/V buffer as integers, in the layout that attention's dot products take.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hvl {

inline constexpr int32_t kKvKeyBlock = 16;
inline constexpr int32_t kKvScaleBytes = kKvKeyBlock * int32_t{sizeof(float)};  // at the start of a block of K or V

// A K or V row of one head has one scale: m = max |x|; integer = round_to_nearest_even(x * (limit / m)), scale = m / limit, limit 8191
// (bits 16) or 127 (bits 8). m < 1e-30: zeros of scale 0. m infinite or NaN: zeros of scale NaN.
inline constexpr float kKvLimit16 = 8191, kKvLimit8 = 127;

// Each side is a run of capacity / 16 blocks for each kv head, a block of 16 keys with d padded by zeros to `padded`, a multiple of 16:
//   K: 16 float scales, then [padded / 4][16 keys][4] int8 (bits 8) or [padded / 2][16 keys][2] int16 (bits 16)
//   V: 16 float scales, then [4][padded][4 keys] int8 or [8][padded][2 keys] int16
// So a lane of a dot product is a key (K) or a d (V), and any range of whole blocks of a head is contiguous.
struct KvCache {
  uint8_t* k;  // 64-byte aligned
  uint8_t* v;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t capacity;  // positions, a multiple of 16
  int32_t bits;      // 16 or 8
};

inline int32_t kv_padded(int32_t head_dim) { return (head_dim + 15) / 16 * 16; }
inline int32_t kv_padded_keys(int32_t keys) { return (keys + kKvKeyBlock - 1) / kKvKeyBlock * kKvKeyBlock; }
inline int64_t kv_block_bytes(int32_t head_dim, int32_t bits) {
  return kKvScaleBytes + int64_t{kKvKeyBlock} * kv_padded(head_dim) * (bits / 8);
}
// Of k; v is as large. Keys are counted in whole blocks.
inline int64_t kv_side_bytes(int32_t kv_heads, int32_t head_dim, int32_t keys, int32_t bits) {
  return int64_t{kv_heads} * (kv_padded_keys(keys) / kKvKeyBlock) * kv_block_bytes(head_dim, bits);
}

struct KvStoreArgs {
  const float* k;      // (rows, kv_heads * head_dim)
  const float* v;      // (rows, kv_heads * head_dim)
  int64_t kv_stride;   // floats, of both
  int32_t rows;
  int32_t position;    // where row 0 goes
  KvCache cache;
};
// Work unit: one kv head (all rows). Keys and values after the last row become zeros of scale 0 up to the next multiple of 16, so that
// attention may read whole blocks; what the first block holds before row 0 stays.

}  // namespace hvl

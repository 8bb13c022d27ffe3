// The AMX-INT8 instructions that amx.cc uses, in plain C++ from their description, so that its tests run on any processor.
#pragma once

#include <stdint.h>
#include <string.h>

namespace hvl {
namespace {

struct EmulatedTile {
  int32_t rows, row_bytes;
  uint8_t data[16][64];
};
thread_local EmulatedTile emulated_tiles[8];

inline void emulated_configure(const void* config) {
  const uint8_t* bytes = static_cast<const uint8_t*>(config);
  for (int tile = 0; tile < 8; ++tile) {
    uint16_t row_bytes;
    memcpy(&row_bytes, bytes + 16 + 2 * tile, sizeof row_bytes);
    memset(&emulated_tiles[tile], 0, sizeof emulated_tiles[tile]);
    emulated_tiles[tile].rows = bytes[48 + tile];
    emulated_tiles[tile].row_bytes = row_bytes;
  }
}

inline void emulated_zero(int tile) { memset(emulated_tiles[tile].data, 0, sizeof emulated_tiles[tile].data); }

inline void emulated_load(int tile, const void* from, int64_t stride) {
  EmulatedTile& t = emulated_tiles[tile];
  emulated_zero(tile);
  for (int32_t r = 0; r < t.rows; ++r) memcpy(t.data[r], static_cast<const uint8_t*>(from) + r * stride, size_t(t.row_bytes));
}

inline void emulated_store(int tile, void* to, int64_t stride) {
  const EmulatedTile& t = emulated_tiles[tile];
  for (int32_t r = 0; r < t.rows; ++r) memcpy(static_cast<uint8_t*>(to) + r * stride, t.data[r], size_t(t.row_bytes));
}

// sum (m, n int32) += a (m, 4 k bytes) * b (k, 4 n bytes): four bytes of a by four of b a step, a signed or not, b signed.
inline void emulated_dot(int sum, int a, int b, bool signed_a) {
  for (int32_t m = 0; m < emulated_tiles[sum].rows; ++m) {
    for (int32_t n = 0; n < emulated_tiles[sum].row_bytes / 4; ++n) {
      int32_t total;
      memcpy(&total, emulated_tiles[sum].data[m] + 4 * n, sizeof total);
      for (int32_t k = 0; k < emulated_tiles[a].row_bytes; ++k) {
        const uint8_t left = emulated_tiles[a].data[m][k];
        total += (signed_a ? int8_t(left) : int32_t(left)) * int8_t(emulated_tiles[b].data[k / 4][4 * n + k % 4]);
      }
      memcpy(emulated_tiles[sum].data[m] + 4 * n, &total, sizeof total);
    }
  }
}

}  // namespace
}  // namespace hvl

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbusd
#define _tile_loadconfig(config) emulated_configure(config)
#define _tile_release() static_cast<void>(0)
#define _tile_zero(tile) emulated_zero(tile)
#define _tile_loadd(tile, from, stride) emulated_load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated_store(tile, to, stride)
#define _tile_dpbssd(sum, a, b) emulated_dot(sum, a, b, true)
#define _tile_dpbusd(sum, a, b) emulated_dot(sum, a, b, false)

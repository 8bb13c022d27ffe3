// The tiles (AMX) that attention multiplies with: registers, their shapes, and the instructions on them.
//
// What they cost on the processor this was written on, beside 16 cycles for a product and 16 for a store, by CPU time in loops of each:
// any tile instruction, be it a load or tilezero, takes one of the two pipes from 512-bit multiplications, conversions and maxima (not additions,
// nor 256-bit ones) for the next 250 cycles or so; the first product after some 2000 to 4000 cycles without one takes 1000 more; a store to lines
// that are in the second cache only takes some 40 more.
// So work between products runs at half the rate. Products, softmax and sums in separate passes over several blocks were tried: what they gain
// there goes into cache misses of what they keep, and they were as fast on average.
//
// gcc's own intrinsics do not say that a tile load reads memory: a store before it could move behind. These do.
#pragma once

#include <stdint.h>

namespace hvl {
namespace {

// Sixteen rows of 64 bytes, but for the halves: factors of runs of 32 keys or dims, of which a row of A has 32 bytes and B has 8 rows.
enum Tile { kSum0 = 0, kSum1, kSum2, kSum3, kA, kB, kHalfA, kHalfB };
inline constexpr int kSums = 4;

template <int kTile>
HVL_VEC void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

template <int kTile>
HVL_VEC void tile_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
HVL_VEC void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
}

// sum[r][c] += rows[r] . columns[c]: of signed bytes both, or of unsigned ones in rows.
template <bool kSigned, int kSum, int kLeft, int kRight>
HVL_VEC void tile_dots() {
  if constexpr (kSigned) {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  } else {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }
}

// The unit of products falls asleep after some 2000 cycles without one (measured on the processor this was written on), and takes some 1000 to
// wake up. So between products a few are made of whatever is there, into a sum that is not in use.
HVL_VEC void tiles_stay_awake() { tile_dots<true, kSum3, kA, kB>(); }

HVL_VEC void tiles_begin() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 32, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 8};
  } config;
  asm volatile("ldtilecfg %0" : : "m"(config));
}

HVL_VEC void tiles_end() { asm volatile("tilerelease"); }

}  // namespace
}  // namespace hvl

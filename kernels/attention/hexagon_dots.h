// The two products of attention in HVX: exact dots of 16-bit queries with 8-bit keys, and of 16-bit weights with 8-bit values, as
// kv_store.h lays these out.
//
// vrmpy multiplies four unsigned bytes of each lane by four bytes that all lanes share. Keys and values are made unsigned by their highest
// bit, which adds 128 to each; what that adds to dots, 128 times the sum of the other side, is taken off where accumulators start. The
// other side comes in planes: int8 `hi` and uint8 `lo`. Two vrmpy a packet are 128 multiplications; loads and what prepares a vector hide
// behind four rows.
//
// Blocks of 16 keys have an odd number of 64 bytes, so that of two neighbours one has its data at a multiple of 128, the other 64 behind
// one.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/common/hexagon_words.h"

namespace hvl::hexagon {
namespace {

using EightBytes = int64_t __attribute__((may_alias));

constexpr int32_t kChunkVectors = kAttentionChunk / kLanes;
constexpr int32_t kBlockShare = kVectorBytes / 2;  // bytes that a block of keys has of a vector

// Sixteen bits as planes, a row every 1024 bytes.
constexpr int32_t kRowBytes = 1024;
constexpr int32_t kQueryLow = 512;   // from `hi` to `lo` of a query
constexpr int32_t kWeightLow = 256;  // of weights

// Four vectors of integers in 16 bits: a vector of their high bytes, one of their low bytes.
HVL_HVX void to_planes(const Vector (&x)[4], Vector& hi, Vector& lo) {
  const Vector first = Q6_Vh_vpacke_VwVw(x[1], x[0]), second = Q6_Vh_vpacke_VwVw(x[3], x[2]);
  hi = Q6_Vb_vpacko_VhVh(second, first);
  lo = Q6_Vb_vpacke_VhVh(second, first);
}

HVL_HVX Vector unsigned_bytes(Vector x) { return Q6_V_vxor_VV(x, splat(int32_t(0x80808080))); }

// Two neighbouring blocks of keys, or the last one and what is beside it.
struct BlockPair {
  const Vector* straddling;  // around the block whose data begins in the middle of a vector
  const Vector* aligned;     // the other
  int32_t turn;              // bytes to turn lanes by that have the aligned block below the straddling one: 64 where it is the second
};
HVL_HVX BlockPair block_pair(const uint8_t* block, bool two, int32_t block_bytes) {
  const uint8_t* first = block + kKvScaleBytes;
  const uint8_t* second = two ? first + block_bytes : block;
  const bool straddles = uintptr_t(first) & kBlockShare;
  const uint8_t* from = straddles ? first : second;
  return {reinterpret_cast<const Vector*>(from - kBlockShare), reinterpret_cast<const Vector*>(straddles ? second : first),
          straddles ? kBlockShare : 0};
}

// The scales of both; for one that is not there, anything.
HVL_HVX Vector pair_words(const uint8_t* block, bool two, int32_t block_bytes) {
  const Vector first = load_unaligned(block);
  return two ? Q6_V_vmux_QVV(Q6_Q_vsetq_R(kBlockShare), first, load_unaligned(block + block_bytes - kBlockShare)) : first;
}

// dots[r][p]: of kRows queries with the 32 keys of each pair. Four dims of the aligned block are in one half of a vector, four of the other
// block in the other half of another: one vmux makes a vector of them. Whose half is which alternates, and so do two sums.
template <int kRows, int kPairs>
HVL_HVX void key_dots(const BlockPair* pairs, const uint8_t* queries, const int32_t* starts, int32_t padded,
                      Vector (&dots)[kRows][kPairs]) {
  const HVX_VectorPred low = Q6_Q_vsetq_R(kBlockShare);
  Vector hi[2][kRows][kPairs], lo[2][kRows][kPairs], straddling[kPairs];
  const Vector* a[kPairs];
  const Vector* b[kPairs];
  for (int p = 0; p < kPairs; ++p) {
    a[p] = pairs[p].straddling;
    b[p] = pairs[p].aligned;
    straddling[p] = unsigned_bytes(*a[p]++);
    for (int r = 0; r < kRows; ++r) {
      hi[0][r][p] = hi[1][r][p] = lo[0][r][p] = zero();
      lo[1][r][p] = splat(starts[r]);
    }
  }
#pragma unroll 2
  for (int32_t d = 0; d < padded; d += 8) {
    for (int p = 0; p < kPairs; ++p) {
      const Vector aligned = unsigned_bytes(*b[p]++), next = unsigned_bytes(*a[p]++);
      const Vector first = Q6_V_vmux_QVV(low, aligned, straddling[p]), second = Q6_V_vmux_QVV(low, next, aligned);
      straddling[p] = next;
      for (int r = 0; r < kRows; ++r) {
        const int64_t q_hi = *reinterpret_cast<const EightBytes*>(queries + r * kRowBytes + d);
        const int64_t q_lo = *reinterpret_cast<const EightBytes*>(queries + r * kRowBytes + kQueryLow + d);
        hi[0][r][p] = Q6_Vw_vrmpyacc_VwVubRb(hi[0][r][p], first, int32_t(q_hi));
        lo[0][r][p] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[0][r][p], first, int32_t(q_lo));
        hi[1][r][p] = Q6_Vw_vrmpyacc_VwVubRb(hi[1][r][p], second, int32_t(q_hi >> 32));
        lo[1][r][p] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[1][r][p], second, int32_t(q_lo >> 32));
      }
    }
  }
  for (int p = 0; p < kPairs; ++p) {
    for (int r = 0; r < kRows; ++r) {
      const Vector aligned_below = Q6_Vw_vaslacc_VwVwR(lo[0][r][p], hi[0][r][p], 8);
      const Vector aligned_above = Q6_Vw_vaslacc_VwVwR(lo[1][r][p], hi[1][r][p], 8);
      const int32_t turn = pairs[p].turn;
      dots[r][p] = Q6_Vw_vadd_VwVw(Q6_V_vror_VR(aligned_below, turn), Q6_V_vror_VR(aligned_above, kBlockShare - turn));
    }
  }
}

// Where a vector of values lies: in a vector of memory; across two halves; in one or the other; or there are only 16 dims, the others
// anything.
enum class At { kAligned, kStraddling, kEither, kHalf };

// kVectors neighbouring vectors of four keys' values, made unsigned.
template <At kAt, int kVectors>
HVL_HVX void load_values(const uint8_t* at, Vector (&x)[kVectors]) {
  if constexpr (kAt == At::kStraddling) {
    const auto* around = reinterpret_cast<const Vector*>(at - kBlockShare);
    for (int v = 0; v < kVectors; ++v) x[v] = unsigned_bytes(Q6_V_valign_VVR(around[v + 1], around[v], kBlockShare));
  } else {
    for (int v = 0; v < kVectors; ++v, at += kVectorBytes) {
      x[v] = unsigned_bytes(kAt == At::kAligned  ? *reinterpret_cast<const Vector*>(at)
                            : kAt == At::kEither ? load_unaligned(at)
                                                 : Q6_V_vror_VR(load_around(at), int32_t(uintptr_t(at))));
    }
  }
}

// Adds the products of every kStep-th of `blocks` blocks, of which `values` is the first. Eight keys at a time: a loop that the compiler
// overlaps.
template <At kAt, int kStep, int kRows, int kVectors>
HVL_HVX void add_products(const uint8_t* values, int32_t blocks, int32_t padded, const uint8_t* weights, Vector (&hi)[kRows][kVectors],
                          Vector (&lo)[kRows][kVectors]) {
  const int32_t four_keys = 4 * padded;
  int32_t skip = kKvScaleBytes + (kStep - 1) * (kKvScaleBytes + 4 * four_keys), skip_keys = (kStep - 1) * kKvKeyBlock;
  const int32_t every_skip = skip, every_skip_keys = skip_keys;
  for (int32_t eights = (blocks + kStep - 1) / kStep * 2; eights > 0; --eights) {
    Vector first[kVectors], second[kVectors];
    load_values<kAt>(values, first);
    load_values<kAt>(values + four_keys, second);
    for (int r = 0; r < kRows; ++r) {
      const int64_t w_hi = *reinterpret_cast<const EightBytes*>(weights + r * kRowBytes);
      const int64_t w_lo = *reinterpret_cast<const EightBytes*>(weights + r * kRowBytes + kWeightLow);
      for (int v = 0; v < kVectors; ++v) {
        hi[r][v] = Q6_Vw_vrmpyacc_VwVubRb(hi[r][v], first[v], int32_t(w_hi));
        lo[r][v] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[r][v], first[v], int32_t(w_lo));
        hi[r][v] = Q6_Vw_vrmpyacc_VwVubRb(hi[r][v], second[v], int32_t(w_hi >> 32));
        lo[r][v] = Q6_Vuw_vrmpyacc_VuwVubRub(lo[r][v], second[v], int32_t(w_lo >> 32));
      }
    }
    skip ^= every_skip;  // after the second eight
    skip_keys ^= every_skip_keys;
    values += 2 * four_keys + skip;
    weights += 8 + skip_keys;
  }
}

// dots[r][v]: of kRows rows of weights with 32 kVectors dims of `blocks` blocks of values; kHalf: with 16. values: of the first block and
// its first dims. Where the dims of four keys are whole vectors, every other block has all of its values aligned, and the others none.
template <int kRows, int kVectors, bool kHalf>
HVL_HVX void value_dots(const uint8_t* values, int32_t blocks, int32_t padded, const uint8_t* weights, const int32_t* starts,
                        Vector (&dots)[kRows][kVectors]) {
  static_assert(!kHalf || kVectors == 1);
  Vector hi[kRows][kVectors], lo[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hi[r][v] = zero();
      lo[r][v] = splat(starts[r]);
    }
  }
  if constexpr (kHalf) {
    add_products<At::kHalf, 1>(values, blocks, padded, weights, hi, lo);
  } else if (padded % kLanes != 0) {
    add_products<At::kEither, 1>(values, blocks, padded, weights, hi, lo);
  } else {
    const int32_t block_bytes = kKvScaleBytes + kKvKeyBlock * padded, first_aligned = uintptr_t(values) & kBlockShare ? 1 : 0;
    const int32_t first_straddling = 1 - first_aligned;
    add_products<At::kAligned, 2>(values + first_aligned * block_bytes, blocks - first_aligned, padded,
                                  weights + first_aligned * kKvKeyBlock, hi, lo);
    add_products<At::kStraddling, 2>(values + first_straddling * block_bytes, blocks - first_straddling, padded,
                                     weights + first_straddling * kKvKeyBlock, hi, lo);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) dots[r][v] = Q6_Vw_vaslacc_VwVwR(lo[r][v], hi[r][v], 8);
  }
}

}  // namespace
}  // namespace hvl::hexagon

// Rows to integers, then (K) squares of 16 keys by 64 bytes transposed, (V) neighbouring keys joined into lanes; written once over the vec16
// of the including variant. What bounds it: about 30 operations for 16 values, while the rows are still in the first cache.
#pragma once

#include "kernels/common/row_scale.h"
#include "kernels/kv_store/kv_store.h"

namespace hvl {
namespace {

// Keys first .. last - 1 of a block of 16 positions are new rows; those before stay, those after become zeros.
struct KeyBlock {
  const float* rows;  // of the head; row `first` is the first one
  int64_t stride;
  int32_t head_dim;
  int first, last;
  RowScale scale[kKvKeyBlock];  // of the new rows
};

HVL_VEC vec::Vec16 load_part(const KeyBlock& block, int key, int32_t d) {
  const float* x = block.rows + (key - block.first) * block.stride + d;
  const int32_t left = block.head_dim - d;
  return left >= 16 ? vec::load(x) : vec::load_n(x, left < 0 ? 0 : left);
}

HVL_VEC vec::Ints to_ints(const KeyBlock& block, int key, int32_t d) {
  if (key < block.first || key >= block.last) return vec::ints_zero();
  return to_row_scale(load_part(block, key, d), block.scale[key]);
}

HVL_VEC void store_scales(KeyBlock& block, float limit, uint8_t* out) {
  float* scales = reinterpret_cast<float*>(out);
  for (int key = block.first; key < kKvKeyBlock; ++key) {
    const bool is_new = key < block.last;
    if (is_new) block.scale[key] = row_scale(row_top(block.rows + (key - block.first) * block.stride, block.head_dim), limit);
    scales[key] = is_new ? block.scale[key].scale : 0.0f;
  }
}

// Four rounds of zipping row i with row i + 8 turn rows into columns.
HVL_VEC void transpose(vec::Vec16 (&a)[16]) {
HVL_UNROLL
  for (int round = 0; round < 4; ++round) {
    vec::Vec16 b[16];
HVL_UNROLL
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = vec::zip_low(a[i], a[i + 8]);
      b[2 * i + 1] = vec::zip_high(a[i], a[i + 8]);
    }
HVL_UNROLL
    for (int i = 0; i < 16; ++i) a[i] = b[i];
  }
}

template <int kBits>
HVL_VEC void store_key_block(KeyBlock& block, uint8_t* out) {
  store_scales(block, kBits == 16 ? kKvLimit16 : kKvLimit8, out);
  out += kKvScaleBytes;
  constexpr int kDims = 512 / kBits;  // of a square
  for (int32_t d = 0; d < kv_padded(block.head_dim); d += kDims, out += 16 * 64) {
    alignas(64) float square[16][16];  // [key][64 bytes of it]: moved as floats, which keeps any bits
    for (int key = 0; key < 16; ++key) {
      uint8_t* at = reinterpret_cast<uint8_t*>(square[key]);
      for (int i = 0; i < kDims; i += 16) {
        if constexpr (kBits == 16) {
          vec::store_words(at + 2 * i, to_ints(block, key, d + i));
        } else {
          vec::store_bytes(at + i, to_ints(block, key, d + i));
        }
      }
    }
    vec::Vec16 lanes[16];
HVL_UNROLL
    for (int key = 0; key < 16; ++key) lanes[key] = vec::load(square[key]);
    transpose(lanes);
    const int32_t left = (kv_padded(block.head_dim) - d) * kBits / 32, n = left < 16 ? left : 16;
    float* to = reinterpret_cast<float*>(out);
    if (block.first == 0 && n == 16) {
HVL_UNROLL
      for (int i = 0; i < 16; ++i) vec::store(to + 16 * i, lanes[i]);
      continue;
    }
    for (int i = 0; i < 16; ++i) vec::store(square[i], lanes[i]);
    for (int i = 0; i < n; ++i) {
      const vec::Vec16 old = block.first > 0 ? vec::load(to + 16 * i) : vec::zero();
      vec::store(to + 16 * i, vec::first_n(old, block.first, vec::load(square[i])));
    }
  }
}

template <int kBits>
HVL_VEC void store_value_block(KeyBlock& block, uint8_t* out) {
  store_scales(block, kBits == 16 ? kKvLimit16 : kKvLimit8, out);
  out += kKvScaleBytes;
  constexpr int kKeys = 32 / kBits;  // of a lane
  for (int key = 0; key < kKvKeyBlock; key += kKeys) {
    const int before = block.first - key;  // keys of these lanes that stay
    for (int32_t d = 0; d < kv_padded(block.head_dim); d += 16, out += 64) {
      if (before >= kKeys) continue;
      vec::Ints lanes;
      if constexpr (kBits == 16) {
        lanes = vec::join_words(to_ints(block, key, d), to_ints(block, key + 1, d));
      } else {
        lanes = vec::join_bytes(to_ints(block, key, d), to_ints(block, key + 1, d), to_ints(block, key + 2, d), to_ints(block, key + 3, d));
      }
      if (before > 0) lanes = vec::ints_or(lanes, vec::ints_and(vec::ints_load(out), vec::ints_set1((1 << before * kBits) - 1)));
      vec::ints_store(out, lanes);
    }
  }
}

template <int kBits>
HVL_VEC void store_head(const KvStoreArgs& args, int32_t head) {
  const KvCache& cache = args.cache;
  const int64_t block_bytes = kv_block_bytes(cache.head_dim, kBits), side = kv_side_bytes(1, cache.head_dim, cache.capacity, kBits);
  const int32_t end = args.position + args.rows;
  for (int32_t position = args.position / kKvKeyBlock * kKvKeyBlock; position < end; position += kKvKeyBlock) {
    KeyBlock block;
    block.stride = args.kv_stride;
    block.head_dim = cache.head_dim;
    block.first = position < args.position ? args.position - position : 0;
    block.last = end - position < kKvKeyBlock ? end - position : kKvKeyBlock;
    const int64_t from = (position + block.first - args.position) * args.kv_stride + int64_t{head} * cache.head_dim;
    const int64_t to = head * side + position / kKvKeyBlock * block_bytes;
    block.rows = args.k + from;
    store_key_block<kBits>(block, cache.k + to);
    block.rows = args.v + from;
    store_value_block<kBits>(block, cache.v + to);
  }
}

HVL_VEC void kv_store_body(const KvStoreArgs& args, int32_t begin, int32_t end) {
  if (args.rows <= 0) return;
  for (int32_t head = begin; head < end; ++head) {
    if (args.cache.bits == 16) {
      store_head<16>(args, head);
    } else {
      store_head<8>(args, head);
    }
  }
}

}  // namespace
}  // namespace hvl

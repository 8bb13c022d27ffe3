// Keys transposed into blocks of 16, values as they come; written once over the vec16 of the including variant.
#pragma once

#include "kernels/kv_store/kv_store.h"

namespace hvl {
namespace {

struct FloatSide {
  using Element = float;
  HVL_VEC void store(float* p, vec::Vec16 x) { vec::store(p, x); }
  HVL_VEC void store_n(float* p, vec::Vec16 x, int n) { vec::store_n(p, x, n); }
};

struct HalfSide {
  using Element = uint16_t;
  HVL_VEC void store(uint16_t* p, vec::Vec16 x) { vec::store_half(p, x); }
  HVL_VEC void store_n(uint16_t* p, vec::Vec16 x, int n) { vec::store_half_n(p, x, n); }
};

// A whole square of 16 keys by 16 dimensions: four rounds of zipping row i with row i + 8 turn rows into columns.
template <class Side>
HVL_VEC void store_key_square(const float* k, int64_t stride, typename Side::Element* out) {
  vec::Vec16 a[16], b[16];
HVL_UNROLL
  for (int key = 0; key < 16; ++key) a[key] = vec::load(k + key * stride);
HVL_UNROLL
  for (int round = 0; round < 4; ++round) {
HVL_UNROLL
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = vec::zip_low(a[i], a[i + 8]);
      b[2 * i + 1] = vec::zip_high(a[i], a[i + 8]);
    }
HVL_UNROLL
    for (int i = 0; i < 16; ++i) a[i] = b[i];
  }
HVL_UNROLL
  for (int d = 0; d < 16; ++d) Side::store(out + d * 16, a[d]);
}

// Keys [first, last) of one block of 16 positions, and zeros from there to its end: rows to columns through a small square.
template <class Side>
HVL_VEC void store_key_block(const KvStoreArgs& args, const float* k, typename Side::Element* block, int32_t block_position, int first,
                             int last) {
  const int32_t head_dim = args.cache.head_dim;
  for (int32_t d = 0; d < head_dim; d += 16) {
    const int n = head_dim - d < 16 ? head_dim - d : 16;
    if (n == 16 && first == 0 && last == 16) {
      store_key_square<Side>(k + int64_t{block_position - args.position} * args.kv_stride + d, args.kv_stride, block + int64_t{d} * 16);
      continue;
    }
    alignas(64) float square[16][16] = {};  // [d][key]; keys past the last stay 0
    for (int key = first; key < last; ++key) {
      const float* row = k + int64_t{block_position + key - args.position} * args.kv_stride + d;
      for (int j = 0; j < n; ++j) square[j][key] = row[j];
    }
    // Keys before `first` belong to earlier calls.
    for (int j = 0; j < n; ++j) {
      Side::store_n(block + int64_t{d + j} * 16 + first, vec::load_n(square[j] + first, 16 - first), 16 - first);
    }
  }
}

template <class Side>
HVL_VEC void store_head(const KvStoreArgs& args, int32_t head) {
  using Element = typename Side::Element;
  const KvCache& cache = args.cache;
  const int32_t head_dim = cache.head_dim;
  const int64_t side = int64_t{cache.capacity} * head_dim;
  Element* k_out = static_cast<Element*>(cache.k) + head * side;
  Element* v_out = static_cast<Element*>(cache.v) + head * side;
  const float* k = args.k + int64_t{head} * head_dim;
  const float* v = args.v + int64_t{head} * head_dim;
  const int32_t end = args.position + args.rows;
  const int32_t padded_end = (end + 15) / 16 * 16;

  for (int32_t block = args.position / 16 * 16; block < end; block += 16) {
    const int first = block < args.position ? args.position - block : 0;
    const int last = end - block < 16 ? end - block : 16;
    // In the last block keys up to its end are written as zeros.
    store_key_block<Side>(args, k, k_out + int64_t{block} * head_dim, block, first, last);
  }
  for (int32_t position = args.position; position < padded_end; ++position) {
    const float* row = v + int64_t{position - args.position} * args.kv_stride;
    Element* out = v_out + int64_t{position} * head_dim;
    for (int32_t d = 0; d < head_dim; d += 16) {
      const int n = head_dim - d < 16 ? head_dim - d : 16;
      Side::store_n(out + d, position < end ? vec::load_n(row + d, n) : vec::zero(), n);
    }
  }
}

HVL_VEC void kv_store_body(const KvStoreArgs& args, int32_t begin, int32_t end) {
  if (args.rows <= 0) return;
  for (int32_t head = begin; head < end; ++head) {
    if (args.cache.bits == 16) {
      store_head<HalfSide>(args, head);
    } else {
      store_head<FloatSide>(args, head);
    }
  }
}

}  // namespace
}  // namespace hvl

// Softmax attention over K/V as kernels/kv_store lays them out; bidirectional (tiles) or causal (LLM), grouped heads.
//
// Arithmetic for one query row and head, the same to the bit in every variant, over chunks of kAttentionChunk = 256 keys by absolute position:
//   s[k] = scale * (sum over d in order, by fma from +0, of q[d] * K[k][d])       keys the row may not see: left out
//   m'   = max(m, max of the chunk);  c = exp(m - m') (0 for the first chunk)
//   p[k] = exp(s[k] - m')
//   l    = fma(l, c, sum p)         sum over 16 virtual lanes (key mod 16), merged 8, 4, 2, 1 as in kernels/norm
//   o[d] = o[d] * c, then by fma in key order  o[d] += p[k] * V[k][d]
// and at the end out[d] = o[d] * (1 / l). exp is ours (kernels/common/math.h).
#pragma once

#include <stdint.h>

#include "kernels/kv_store/kv_store.h"

namespace hvl {

inline constexpr int32_t kAttentionChunk = 256;
inline constexpr int32_t kAttentionQueryBlock = 16;   // query rows a work unit
inline constexpr int32_t kAttentionMaxHeadDim = 256;

struct AttentionArgs {
  const float* q;      // (rows, heads * head_dim); head h reads kv head h / (heads / kv_heads)
  int64_t q_stride;    // floats
  float* out;          // (rows, heads * head_dim), must not be q
  int64_t out_stride;  // floats
  KvCache cache;
  int32_t rows;
  int32_t heads;
  int32_t position;    // of query row 0 (causal: row r sees keys 0 .. position + r)
  int32_t kv_length;   // keys present (bidirectional: every row sees all of them)
  bool causal;
  float scale;
};
// Work unit: (head, block of kAttentionQueryBlock query rows); unit = head * blocks + block.
inline int32_t attention_units(int32_t rows, int32_t heads) {
  return heads * ((rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock);
}

}  // namespace hvl

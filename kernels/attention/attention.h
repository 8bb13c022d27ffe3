// Softmax attention over K/V as kernels/kv_store lays them out; bidirectional (tiles) or causal (LLM), grouped heads.
//
// Arithmetic for one query row and head, the same to the bit in every variant, over chunks of kAttentionChunk = 256 keys by absolute
// position, whether the keys come in one call or in parts:
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
inline constexpr int32_t kAttentionSlice = 64;        // keys of K or V worked on at a time

struct AttentionArgs {
  const float* q;      // (rows, heads * head_dim); head h reads kv head h / (heads / kv_heads)
  int64_t q_stride;    // floats
  float* out;          // (rows, heads * head_dim), must not be q
  int64_t out_stride;  // floats
  KvCache cache;       // its position 0 holds key key_begin
  int32_t rows;
  int32_t heads;
  int32_t position;    // of query row 0 (causal: row r sees keys 0 .. position + r, others: every row sees every key)
  int32_t key_begin;   // this call covers keys key_begin .. key_end - 1 of those a row sees; a multiple of kAttentionChunk
  int32_t key_end;
  bool causal;
  bool first;          // keys may come in parts, in order, a call each: whether this is the first part
  bool last;           // and whether the last. Before it, out holds o of the formulas above
  float scale;
  float* state;          // (rows, heads, 2): m and l between the parts; unused when first and last
  int64_t state_stride;  // floats, from row to row
  uint8_t* scratch;      // attention_scratch_bytes, 128-byte aligned, of this call alone; holds nothing between calls
};
// Work unit: (head, block of kAttentionQueryBlock query rows); unit = head * blocks + block.
inline int32_t attention_units(int32_t rows, int32_t heads) {
  return heads * ((rows + kAttentionQueryBlock - 1) / kAttentionQueryBlock);
}

// Scores of a chunk, q and o of a block of rows, and for 16-bit caches a slice converted to float: all that a call needs beside
// operands and a few hundred bytes of stack. A multiple of 128.
inline int64_t attention_scratch_bytes(int32_t head_dim, int32_t kv_bits) {
  const int64_t padded = (head_dim + 15) / 16 * 16;
  const int64_t rows = kAttentionQueryBlock * (kAttentionChunk + 2 * padded);
  return int64_t{sizeof(float)} * (rows + (kv_bits == 16 ? kAttentionSlice * padded : 0));
}

}  // namespace hvl

// Softmax attention over K/V as kernels/kv_store lays them out, in exact integer dots; bidirectional (tiles) or causal (LLM), grouped heads.
//
// Arithmetic for one query row and head, the same to the bit in every variant, over chunks of kAttentionChunk = 256 keys by absolute
// position, whether the keys come in one call or in parts. Formats, by bits of the cache and of the activations:
//            q limit  K, V limit  w limit  dims of a run
//   16, any     8191        8191     8191             32
//    8, 16     32767         127    32767            all
//    8,  8       127         127      255            all
// Dots of such runs, and of runs of kAttentionRun = 32 keys, are exact in int32 (32 * 8191 * 8191 < 2^31).
//   s_q, qi = the row as integers of one scale (the rule of kernels/kv_store, with the limit for q)
//   t[k]  = sum of float(dot of qi and K[k]) over the runs of dims in order          keys the row may not see: left out
//   s[k]  = (t[k] * (s_q * scale)) * s_K[k]
//   m'    = max(m, max of the chunk);  c = exp(m - m') (0 for the first chunk)
//   p[k]  = exp(s[k] - m')
//   l     = fma(l, c, sum p)         sum over 16 virtual lanes (key mod 16), merged 8, 4, 2, 1 as in kernels/norm
//   w[k]  = p[k] * s_V[k];  s_w, wi = w of a run of keys as integers of one scale, by the same rule with the limit for w
//   o[d]  = o[d] * c, then over the chunk's runs of keys in order  o[d] = fma(float(dot of wi and V[.][d]), s_w, o[d])
// and at the end out[d] = fma(o[d], 1 / l, +0). exp is ours (kernels/common/math.h).
#pragma once

#include <stdint.h>

#include "kernels/kv_store/kv_store.h"

namespace hvl {

inline constexpr int32_t kAttentionChunk = 256;
inline constexpr int32_t kAttentionRun = 32;          // keys whose weights share a scale: few, because one large weight makes it coarse for all
inline constexpr int32_t kAttentionQueryBlock = 16;   // query rows a work unit
inline constexpr int32_t kAttentionMaxHeadDim = 512;  // up to where the dots of all d fit int32

struct AttentionArgs {
  const float* q;      // (rows, heads * head_dim); head h reads kv head h / (heads / kv_heads)
  int64_t q_stride;    // floats
  float* out;          // (rows, heads * head_dim), must not be q
  int64_t out_stride;  // floats
  KvCache cache;       // its position 0 holds key key_begin
  int32_t activation_bits;  // 16 or 8
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

// All that a call needs beside operands and some kilobytes of stack: for a block of rows scores of a chunk, o, and q as integers of 16 bits. With
// tiles, which heads of kAttentionTileDims and more may take: o and q of kAttentionGroup blocks, and of a chunk V, and what K has of no whole
// tile of 64 dims, as tiles take them. A multiple of 128.
inline constexpr int32_t kAttentionGroup = 4;
inline constexpr int32_t kAttentionTileDims = 64;
inline int64_t attention_scratch_bytes(int32_t head_dim) {
  const int64_t scores = int64_t{sizeof(float)} * kAttentionChunk, row = int64_t{sizeof(float) + 2} * kv_padded(head_dim);
  if (head_dim < kAttentionTileDims) return kAttentionQueryBlock * (scores + row);
  return kAttentionQueryBlock * (scores + kAttentionGroup * row) + kAttentionChunk * (kv_padded(head_dim) + 64);
}

}  // namespace hvl

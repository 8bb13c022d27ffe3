#include "csrc/base/hash.h"

#include <string.h>

#include <vector>

#include "csrc/base/parallel.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hvl {
namespace {

constexpr size_t kStripe = 64;  // eight lanes of 64 bits
constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;

uint64_t mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0xd6e8feb86659fd93ull;
  x ^= x >> 29;
  x *= 0xa0761d6478bd642full;
  return x ^ (x >> 32);
}

struct Lanes {
  uint64_t sum[8];
  uint64_t key[8];
};

// For each lane i and word x: sum[i] += lo32(x ^ key) * hi32(x ^ key); sum[i ^ 1] += x; key += kStep. The plain sum sees every bit
// even where the product is zero; the moving key makes the product depend on the place.
#if defined(__SSE2__)
void add_stripes(Lanes& lanes, const uint8_t* data, size_t stripes) {
  __m128i sum[4], key[4];
  for (int i = 0; i < 4; ++i) {
    sum[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes.sum) + i);
    key[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes.key) + i);
  }
  const __m128i step = _mm_set1_epi64x(static_cast<int64_t>(kStep));
  for (size_t s = 0; s < stripes; ++s, data += kStripe) {
    for (int i = 0; i < 4; ++i) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + i);
      const __m128i k = _mm_xor_si128(x, key[i]);
      sum[i] = _mm_add_epi64(sum[i], _mm_mul_epu32(k, _mm_srli_epi64(k, 32)));
      sum[i] = _mm_add_epi64(sum[i], _mm_shuffle_epi32(x, 0x4e));
      key[i] = _mm_add_epi64(key[i], step);
    }
  }
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes.sum) + i, sum[i]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes.key) + i, key[i]);
  }
}
#else
void add_stripes(Lanes& lanes, const uint8_t* data, size_t stripes) {
  for (size_t s = 0; s < stripes; ++s, data += kStripe) {
    for (int i = 0; i < 8; ++i) {
      uint64_t x;
      memcpy(&x, data + 8 * i, 8);
      const uint64_t k = x ^ lanes.key[i];
      lanes.sum[i] += (k & 0xffffffffu) * (k >> 32);
      lanes.sum[i ^ 1] += x;
      lanes.key[i] += kStep;
    }
  }
}
#endif

}  // namespace

uint64_t hash_chunk(const uint8_t* data, size_t bytes, uint64_t index) noexcept {
  Lanes lanes;
  for (uint64_t i = 0; i < 8; ++i) {
    lanes.sum[i] = mix(i + 1);
    lanes.key[i] = mix((index << 4) + i + 17);
  }
  const size_t stripes = bytes / kStripe;
  add_stripes(lanes, data, stripes);
  if (const size_t rest = bytes - stripes * kStripe) {
    uint8_t tail[kStripe] = {};
    memcpy(tail, data + stripes * kStripe, rest);
    add_stripes(lanes, tail, 1);
  }
  uint64_t hash = mix(bytes ^ kStep);
  for (int i = 0; i < 8; ++i) hash = mix(hash ^ lanes.sum[i]) + kStep * static_cast<uint64_t>(i);
  return hash;
}

uint64_t hash_combine(const uint64_t* chunks, size_t count, uint64_t bytes) noexcept {
  uint64_t hash = mix(bytes + kStep);
  for (size_t i = 0; i < count; ++i) hash = mix(hash ^ chunks[i]) + kStep * (i + 1);
  return mix(hash);
}

uint64_t hash64(const uint8_t* data, size_t bytes) {
  const size_t count = (bytes + kHashChunk - 1) / kHashChunk;
  std::vector<uint64_t> chunks(count);
  parallel_ranges(count, 4, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t at = i * kHashChunk;
      chunks[i] = hash_chunk(data + at, bytes - at < kHashChunk ? bytes - at : kHashChunk, i);
    }
  });
  return hash_combine(chunks.data(), count, bytes);
}

}  // namespace hvl

// A 64-bit checksum at memory speed, for detecting damage (not an adversary): any changed bit changes some lane's sum.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace hvl {

inline constexpr size_t kHashChunk = size_t(1) << 20;

// The checksum of one chunk (any length up to kHashChunk) that is the `index`-th of its data.
uint64_t hash_chunk(const uint8_t* data, size_t bytes, uint64_t index) noexcept;

// The checksum of data from its chunks' checksums.
uint64_t hash_combine(const uint64_t* chunks, size_t count, uint64_t bytes) noexcept;

// Both together; threads over chunks when there are many.
uint64_t hash64(const uint8_t* data, size_t bytes);

}  // namespace hvl

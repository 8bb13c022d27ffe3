#include "csrc/io/packed_file.h"

#include <string.h>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/base/parallel.h"

namespace hvl {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kPage = 4096;
constexpr size_t kLarge = 16 * kPage;                     // sections from here on start on a page
constexpr size_t kMaxSectionBytes = size_t(1) << 40;      // far above any real tensor, far below overflow
constexpr int64_t kMaxLinearSide = int64_t(1) << 28;      // keeps int32 row and column counts clear of overflow

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

void check_linear(Section& s) {
  LinearWeight& w = s.linear;
  if (s.shape.size() != 2 || s.shape[0] < 1 || s.shape[1] < 1 || s.shape[0] > kMaxLinearSide || s.shape[1] > kMaxLinearSide) {
    fail(ErrorKind::kCheckpoint, s.name, ": a linear weight needs rows and columns from 1 to ", kMaxLinearSide);
  }
  const bool bits_fit = w.bits == 4 || w.bits == 8;
  if (!bits_fit || !linear_group_fits(w) || (w.scale_bits != 16 && w.scale_bits != 32)) {
    fail(ErrorKind::kCheckpoint, s.name, ": expected 4 or 8 bits, groups of 32, 64 or 128 (8 bits without zero points: to 512) and scales of 16 or 32 bits, got ", w.bits,
         ", ", w.group_size, " and ", w.scale_bits);
  }
  if (w.zero_points != 0 && w.zero_points != 1) fail(ErrorKind::kCheckpoint, s.name, ": zero_points is ", w.zero_points, ", expected 0 or 1");
  w.rows = static_cast<int32_t>(s.shape[0]);
  w.cols = static_cast<int32_t>(s.shape[1]);
  s.bytes = linear_bytes(w);
  if (s.bytes > kMaxSectionBytes) fail(ErrorKind::kCheckpoint, s.name, ": ", s.bytes, " bytes is more than a section may hold");
}

}  // namespace

size_t dtype_bytes(const std::string& dtype) {
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "I8" || dtype == "U8") return 1;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16") return 2;
  if (dtype == "I64") return 8;
  return 0;
}

void check_section(Section& s) {
  if (s.is_linear) return check_linear(s);
  const size_t element = dtype_bytes(s.dtype);
  if (element == 0) fail(ErrorKind::kCheckpoint, s.name, ": dtype ", s.dtype, " cannot be stored");
  if (s.shape.size() > kMaxRank) fail(ErrorKind::kCheckpoint, s.name, ": expected at most ", kMaxRank, " axes, got ", s.shape.size());
  size_t bytes = element;
  for (const int64_t side : s.shape) {
    if (side < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(side), &bytes) || bytes > kMaxSectionBytes) {
      fail(ErrorKind::kCheckpoint, s.name, ": its shape has a side of ", side, ", more than a section may hold");
    }
  }
  s.bytes = bytes;
}

PackedLayout lay_out(std::vector<Section>& sections, size_t names_bytes, size_t fingerprint_bytes, size_t config_bytes) {
  PackedLayout layout;
  layout.meta_bytes =
      sizeof(PackedHeader) + sections.size() * sizeof(SectionEntry) + names_bytes + fingerprint_bytes + config_bytes;
  layout.first = layout.file_bytes = round_up(layout.meta_bytes, kPage);
  Section* previous = nullptr;
  for (Section& s : sections) {
    s.offset = round_up(layout.file_bytes, s.bytes >= kLarge ? kPage : kLine);
    if (previous != nullptr) previous->span = s.offset - previous->offset;
    layout.file_bytes = s.offset + s.bytes;
    if (layout.file_bytes > kMaxSectionBytes) fail(ErrorKind::kCheckpoint, "the packed weights would take more than 2^40 bytes");
    previous = &s;
  }
  layout.file_bytes = round_up(layout.file_bytes, kPage);
  if (previous != nullptr) previous->span = layout.file_bytes - previous->offset;
  return layout;
}

SectionEntry entry_of(const Section& s, uint64_t checksum) {
  SectionEntry e;
  memset(&e, 0, sizeof(e));
  e.checksum = checksum;
  e.rank = static_cast<uint32_t>(s.shape.size());
  for (size_t i = 0; i < s.shape.size(); ++i) e.shape[i] = static_cast<uint64_t>(s.shape[i]);
  e.name_bytes = static_cast<uint32_t>(s.name.size());
  const std::string dtype = s.is_linear ? "LIN" : s.dtype;
  memcpy(e.dtype, dtype.data(), dtype.size());
  if (s.is_linear) {
    e.bits = static_cast<uint16_t>(s.linear.bits);
    e.group_size = static_cast<uint16_t>(s.linear.group_size);
    e.scale_bits = static_cast<uint16_t>(s.linear.scale_bits);
    e.zero_points = static_cast<uint16_t>(s.linear.zero_points);
  }
  return e;
}

Section section_of(const SectionEntry& e, std::string name) {
  Section s;
  s.name = std::move(name);
  if (e.rank > kMaxRank) fail(ErrorKind::kCheckpoint, s.name, ": expected at most ", kMaxRank, " axes, got ", e.rank);
  for (uint32_t i = 0; i < e.rank; ++i) s.shape.push_back(static_cast<int64_t>(e.shape[i]));
  s.dtype.assign(e.dtype, strnlen(e.dtype, sizeof(e.dtype)));
  s.is_linear = s.dtype == "LIN";
  if (s.is_linear) s.linear = {nullptr, 0, 0, e.bits, e.group_size, e.scale_bits, e.zero_points};
  check_section(s);
  return s;
}

std::vector<uint64_t> section_checksums(const std::vector<Section>& sections, const uint8_t* base) {
  struct Chunk {
    const uint8_t* data;
    size_t bytes;
    uint64_t index;
  };
  std::vector<Chunk> chunks;
  for (const Section& s : sections) {
    for (size_t at = 0; at < s.span; at += kHashChunk) {
      chunks.push_back({base + s.offset + at, s.span - at < kHashChunk ? s.span - at : kHashChunk, at / kHashChunk});
    }
  }
  std::vector<uint64_t> hashes(chunks.size());
  parallel_ranges(chunks.size(), 4, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) hashes[i] = hash_chunk(chunks[i].data, chunks[i].bytes, chunks[i].index);
  });
  std::vector<uint64_t> sums;
  const uint64_t* next = hashes.data();
  for (const Section& s : sections) {
    const size_t count = (s.span + kHashChunk - 1) / kHashChunk;
    sums.push_back(hash_combine(next, count, s.span));
    next += count;
  }
  return sums;
}

uint64_t header_checksum(const PackedHeader& header) {
  return hash64(reinterpret_cast<const uint8_t*>(&header), offsetof(PackedHeader, header_checksum));
}

}  // namespace hvl

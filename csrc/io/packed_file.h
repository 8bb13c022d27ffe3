// The file of packed weights (a cache: made by this build for this machine's kernels, rebuilt whenever anything about it is off).
//
//   PackedHeader                                     fixed size, with a checksum of itself
//   SectionEntry[sections]                           \.
//   names, fingerprint, config JSON (bytes)           > one checksum for all of it
//   zeros up to the first section                    /
//   sections, in the table's order                   one checksum each, over the section and the zeros up to the next one
//
// So every byte of the file is under some checksum. Where a section lies follows from the sizes before it: offsets are not stored,
// nothing can overlap. Integers are in the machine's order; a file from the other order fails at the magic number.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

#include "kernels/linear/linear.h"

namespace hvl {

inline constexpr uint64_t kPackedMagic = 0x31305741504c5648ull;  // "HVLPAW01" in memory on a little-endian machine
inline constexpr uint32_t kPackedFormat = 1;                      // of this file
inline constexpr uint32_t kPackedLayout = 1;                      // of kernels/linear: raise it when the packing changes

struct PackedHeader {
  uint64_t magic;
  uint32_t format;
  uint32_t layout;
  uint64_t file_bytes;
  uint64_t sections;
  uint64_t names_bytes;
  uint64_t fingerprint_bytes;
  uint64_t config_bytes;
  uint64_t meta_checksum;    // of the bytes from the header's end to the first section
  uint64_t header_checksum;  // of the fields above
};

inline constexpr int kMaxRank = 4;

struct SectionEntry {
  uint64_t checksum;
  uint64_t shape[kMaxRank];  // linear: rows, cols
  uint32_t rank;
  uint32_t name_bytes;  // names follow each other in the table's order
  char dtype[4];        // as safetensors writes it, zero-padded; "LIN" for a linear weight
  uint16_t bits;        // linear only, else 0
  uint16_t group_size;
  uint16_t scale_bits;
  uint16_t zero_points;  // 1: the weight has them
  uint16_t reserved[2];  // zero; makes the size a multiple of 8
};
static_assert(sizeof(PackedHeader) == 72 && sizeof(SectionEntry) == 64);

// A section as the code sees it.
struct Section {
  std::string name;
  bool is_linear = false;
  LinearWeight linear{};       // data set by whoever maps the file
  std::string dtype;           // arrays
  std::vector<int64_t> shape;  // arrays: any rank up to kMaxRank; linear: rows, cols
  size_t offset = 0;
  size_t bytes = 0;
  size_t span = 0;  // up to the next section
};

// Bytes of an element, or 0 for a dtype the file cannot hold.
size_t dtype_bytes(const std::string& dtype);

// Checks what a plan or a file says of a section and sets `bytes`. Error kCheckpoint naming it.
void check_section(Section& section);

struct PackedLayout {
  size_t meta_bytes = 0;  // header, table, names, fingerprint, config
  size_t first = 0;       // offset of the first section
  size_t file_bytes = 0;
};

// Sets every section's offset and span: 64-byte aligned, large ones to a page.
PackedLayout lay_out(std::vector<Section>& sections, size_t names_bytes, size_t fingerprint_bytes, size_t config_bytes);

SectionEntry entry_of(const Section& section, uint64_t checksum);
Section section_of(const SectionEntry& entry, std::string name);

// Checksums of all sections at once, threads over the chunks of all of them.
std::vector<uint64_t> section_checksums(const std::vector<Section>& sections, const uint8_t* base);

uint64_t header_checksum(const PackedHeader& header);

}  // namespace hvl

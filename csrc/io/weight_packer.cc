#include "csrc/io/weight_packer.h"

#include <string.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/base/parallel.h"
#include "kernels/linear/pack.h"

namespace hvl {

WeightPacker::WeightPacker(std::string path, std::string fingerprint, std::string config_json)
    : path_(std::move(path)), fingerprint_(std::move(fingerprint)), config_json_(std::move(config_json)) {}

void WeightPacker::require(State state, const char* call) const {
  static constexpr const char* kNames[] = {"before begin()", "between begin() and finish()", "never after finish()"};
  if (state_ != state) fail(ErrorKind::kValue, call, " may be called only ", kNames[static_cast<int>(state)]);
}

void WeightPacker::add(Section section) {
  require(State::kPlanning, "plan");
  check_section(section);
  if (section.name.empty() || section.name.size() > 4096) fail(ErrorKind::kValue, "a tensor's name must have 1 to 4096 bytes");
  if (!index_.emplace(section.name, sections_.size()).second) fail(ErrorKind::kValue, section.name, " is planned already");
  sections_.push_back(std::move(section));
}

void WeightPacker::plan_linear(const std::string& name, int64_t rows, int64_t cols, int32_t bits, int32_t group_size,
                               int32_t scale_bits, bool zero_points) {
  Section s;
  s.name = name;
  s.is_linear = true;
  s.linear = {nullptr, 0, 0, bits, group_size, scale_bits, zero_points};
  s.shape = {rows, cols};
  add(std::move(s));
}

void WeightPacker::plan_array(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape) {
  Section s;
  s.name = name;
  s.dtype = dtype;
  s.shape = shape;
  add(std::move(s));
}

size_t WeightPacker::begin() {
  require(State::kPlanning, "begin");
  size_t names_bytes = 0;
  for (const Section& s : sections_) names_bytes += s.name.size();
  layout_ = lay_out(sections_, names_bytes, fingerprint_.size(), config_json_.size());
  memory_ = path_.empty() ? Mapping::private_memory(layout_.file_bytes) : Mapping::create_file(path_, layout_.file_bytes);
  written_.assign(sections_.size(), false);
  state_ = State::kWriting;
  return layout_.file_bytes;
}

const Section& WeightPacker::planned(const std::string& name) const {
  const auto at = index_.find(name);
  if (at == index_.end()) fail(ErrorKind::kValue, name, " was not planned");
  return sections_[at->second];
}

size_t WeightPacker::writable(const std::string& name, bool is_linear) const {
  require(State::kWriting, "write");
  const Section& s = planned(name);
  if (s.is_linear != is_linear) fail(ErrorKind::kValue, name, " was planned as ", s.is_linear ? "a linear" : "an array");
  const size_t i = index_.at(name);
  if (written_[i]) fail(ErrorKind::kValue, name, " is written already");
  return i;
}

void WeightPacker::write_linear(const std::string& name, const int32_t* words, int64_t words_per_row, const float* scales,
                                const int8_t* zero_points, int32_t scale_cols) {
  const size_t i = writable(name, true);
  const Section& s = sections_[i];
  const LinearWeight& w = s.linear;
  const int64_t need = (int64_t(w.cols) * w.bits + 31) / 32;
  const int32_t groups = linear_groups(w);
  if (words_per_row != need || (scale_cols != groups && scale_cols != 1)) {
    fail(ErrorKind::kValue, name, ": expected ", need, " words and ", groups, " (or 1) scales a row, got ", words_per_row, " and ",
         scale_cols);
  }
  if ((zero_points != nullptr) != (w.zero_points != 0)) {
    fail(ErrorKind::kValue, name, " was planned ", w.zero_points ? "with" : "without", " zero points, and is written ",
         w.zero_points ? "without" : "with");
  }
  uint8_t* dst = memory_.data() + s.offset;
  std::atomic<bool> exact{true};
  // Starting a thread costs about as much as packing 100 KB.
  const size_t smallest = std::max<size_t>(1, (size_t(1) << 20) / linear_block_bytes(w));
  parallel_ranges(static_cast<size_t>(linear_row_blocks(w)), smallest, [&](size_t begin, size_t end) {
    if (!pack_linear_words(words, words_per_row, scales, zero_points, scale_cols, w, dst, static_cast<int32_t>(begin), static_cast<int32_t>(end))) {
      exact = false;
    }
  });
  if (!exact) fail(ErrorKind::kValue, name, ": planned with 16-bit scales, but one of them is not exact in F16");
  written_[i] = true;
}

void WeightPacker::write_array(const std::string& name, const void* values, size_t bytes) {
  const size_t i = writable(name, false);
  const Section& s = sections_[i];
  if (bytes != s.bytes) fail(ErrorKind::kValue, name, ": expected ", s.bytes, " bytes, got ", bytes);
  if (bytes > 0) memcpy(memory_.data() + s.offset, values, bytes);
  written_[i] = true;
}

std::shared_ptr<WeightStore> WeightPacker::finish() {
  require(State::kWriting, "finish");
  for (size_t i = 0; i < sections_.size(); ++i) {
    if (!written_[i]) fail(ErrorKind::kValue, sections_[i].name, " was planned but not written");
  }
  if (!path_.empty()) {
    const std::vector<uint64_t> sums = section_checksums(sections_, memory_.data());
    uint8_t* at = memory_.data() + sizeof(PackedHeader);
    const auto put = [&at](const void* from, size_t bytes) {
      if (bytes > 0) memcpy(at, from, bytes);
      at += bytes;
    };
    size_t names_bytes = 0;
    for (size_t i = 0; i < sections_.size(); ++i) {
      const SectionEntry entry = entry_of(sections_[i], sums[i]);
      put(&entry, sizeof(entry));
    }
    for (const Section& s : sections_) {
      put(s.name.data(), s.name.size());
      names_bytes += s.name.size();
    }
    put(fingerprint_.data(), fingerprint_.size());
    put(config_json_.data(), config_json_.size());
    PackedHeader h{kPackedMagic,        kPackedFormat, kPackedLayout, layout_.file_bytes, sections_.size(), names_bytes, fingerprint_.size(),
                   config_json_.size(), 0,             0};
    h.meta_checksum = hash64(memory_.data() + sizeof(h), layout_.first - sizeof(h));
    h.header_checksum = header_checksum(h);
    memcpy(memory_.data(), &h, sizeof(h));
  }
  memory_.seal();
  state_ = State::kFinished;
  return std::make_shared<WeightStore>(std::move(memory_), std::move(sections_), std::move(config_json_));
}

}  // namespace hvl

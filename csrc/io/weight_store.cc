#include "csrc/io/weight_store.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"

namespace hvl {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::string describe(const StoredTensor& t) {
  return (t.is_linear ? "a packed linear of " + std::to_string(t.linear.bits) + " bits" : t.dtype) + " " + shape_text(t.shape);
}

// Reads what lies between the header and the first section, front to back, never past its end.
class MetaReader {
 public:
  MetaReader(const uint8_t* at, size_t left, const std::string& path) : at_(at), left_(left), path_(path) {}

  const uint8_t* take(uint64_t bytes) {
    if (bytes > left_) fail(ErrorKind::kCheckpoint, path_, " is damaged: its table is longer than the file");
    left_ -= bytes;
    return std::exchange(at_, at_ + bytes);
  }
  std::string text(uint64_t bytes) {
    const uint8_t* from = take(bytes);
    return std::string(reinterpret_cast<const char*>(from), bytes);
  }

 private:
  const uint8_t* at_;
  size_t left_;
  const std::string& path_;
};

PackedHeader checked_header(const Mapping& memory, const std::string& path) {
  PackedHeader h;
  if (memory.bytes() < sizeof(h)) fail(ErrorKind::kCheckpoint, path, " is damaged: only ", memory.bytes(), " bytes");
  memcpy(&h, memory.data(), sizeof(h));
  if (h.magic != kPackedMagic) fail(ErrorKind::kCheckpoint, path, " is not a file of packed weights, or was never finished");
  if (h.format != kPackedFormat || h.layout != kPackedLayout) {
    fail(ErrorKind::kCheckpoint, path, ": expected format ", kPackedFormat, " and layout ", kPackedLayout, ", got ", h.format, " and ",
         h.layout, ": made by another version");
  }
  if (h.header_checksum != header_checksum(h)) fail(ErrorKind::kCheckpoint, path, " is damaged: its header's checksum does not match");
  if (h.file_bytes != memory.bytes()) {
    fail(ErrorKind::kCheckpoint, path, " is damaged: expected ", h.file_bytes, " bytes, got ", memory.bytes());
  }
  return h;
}

}  // namespace

std::shared_ptr<WeightStore> WeightStore::open(const std::string& path, const std::string& fingerprint, const std::string& known) {
  std::string identity;
  Mapping memory = Mapping::read_file(path, &identity);
  const PackedHeader h = checked_header(memory, path);

  MetaReader meta(memory.data() + sizeof(h), memory.bytes() - sizeof(h), path);
  uint64_t table_bytes;
  if (__builtin_mul_overflow(h.sections, sizeof(SectionEntry), &table_bytes)) {
    fail(ErrorKind::kCheckpoint, path, " is damaged: ", h.sections, " sections");
  }
  const uint8_t* table = meta.take(table_bytes);
  const std::string names = meta.text(h.names_bytes);
  const std::string made_for = meta.text(h.fingerprint_bytes);
  std::string config_json = meta.text(h.config_bytes);

  // From here on every size is within the file; the checksum vouches for the table before its entries are believed.
  const size_t meta_end = (sizeof(h) + table_bytes + h.names_bytes + h.fingerprint_bytes + h.config_bytes + 4095) / 4096 * 4096;
  if (meta_end > memory.bytes() || hash64(memory.data() + sizeof(h), meta_end - sizeof(h)) != h.meta_checksum) {
    fail(ErrorKind::kCheckpoint, path, " is damaged: its table's checksum does not match");
  }
  if (made_for != fingerprint) fail(ErrorKind::kCheckpoint, path, " was made for other files than these");

  std::vector<Section> sections;
  std::vector<uint64_t> expected;
  size_t name_at = 0;
  for (uint64_t i = 0; i < h.sections; ++i) {
    SectionEntry entry;
    memcpy(&entry, table + i * sizeof(entry), sizeof(entry));
    if (entry.name_bytes > names.size() - name_at) fail(ErrorKind::kCheckpoint, path, " is damaged: its names are cut short");
    sections.push_back(section_of(entry, names.substr(name_at, entry.name_bytes)));
    expected.push_back(entry.checksum);
    name_at += entry.name_bytes;
  }
  const PackedLayout layout = lay_out(sections, h.names_bytes, h.fingerprint_bytes, h.config_bytes);
  if (layout.file_bytes != memory.bytes()) {
    fail(ErrorKind::kCheckpoint, path, " is damaged: its sections need ", layout.file_bytes, " bytes, the file has ", memory.bytes());
  }
  const std::vector<uint64_t> found = identity == known ? expected : section_checksums(sections, memory.data());
  for (size_t i = 0; i < sections.size(); ++i) {
    if (found[i] != expected[i]) fail(ErrorKind::kCheckpoint, path, " is damaged: the checksum of ", sections[i].name, " does not match");
  }
  auto store = std::make_shared<WeightStore>(std::move(memory), std::move(sections), std::move(config_json));
  store->identity_ = std::move(identity);
  return store;
}

WeightStore::WeightStore(Mapping memory, std::vector<Section> sections, std::string config_json)
    : memory_(std::move(memory)), config_json_(std::move(config_json)) {
  tensors_.reserve(sections.size());
  for (Section& s : sections) {
    if (!index_.emplace(s.name, tensors_.size()).second) fail(ErrorKind::kCheckpoint, "two packed tensors are called ", s.name);
    const uint8_t* data = memory_.data() + s.offset;
    s.linear.data = s.is_linear ? data : nullptr;
    tensors_.push_back(
        {std::move(s.name), s.is_linear, s.linear, s.is_linear ? "" : std::move(s.dtype), std::move(s.shape), data, s.bytes});
  }
}

namespace {

// Bytes that programs can still get without swapping, or 0 where the system does not say.
size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    unsigned long kilobytes;
    if (sscanf(line.c_str(), "MemAvailable: %lu kB", &kilobytes) == 1) return size_t(kilobytes) << 10;
  }
  return 0;
}

}  // namespace

void WeightStore::make_private(const std::shared_ptr<WeightStore>& store, const std::vector<std::string>& prefixes) {
  const std::vector<StoredTensor>& tensors = store->tensors_;
  const auto chosen = [&](const StoredTensor& t) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) { return t.name.compare(0, prefix.size(), prefix) == 0; });
  };
  size_t total = 0;
  for (const StoredTensor& t : tensors) total += chosen(t) ? t.bytes : 0;
  if (available_memory() < 2 * total) return;
  for (size_t i = 0; i < tensors.size(); ++i) {  // neighbours together
    if (!chosen(tensors[i])) continue;
    const uint8_t* const begin = tensors[i].data;
    while (i + 1 < tensors.size() && chosen(tensors[i + 1])) ++i;
    const size_t bytes = size_t(tensors[i].data - begin) + tensors[i].bytes;
    store->memory_.make_private(size_t(begin - store->data()), bytes, [&] { return store.use_count() > 1; });
  }
}

void WeightStore::make_private_later(const std::shared_ptr<WeightStore>& store, std::vector<std::string> prefixes) {
  store->copying_ = true;
  try {
    std::thread([store, prefixes = std::move(prefixes)] {
      make_private(store, prefixes);
      store->copying_ = false;
    }).detach();
  } catch (const std::system_error&) {  // no thread: the pages of the file do too
    store->copying_ = false;
  }
}

void WeightStore::settle() const {
  using namespace std::chrono_literals;
  for (const auto end = std::chrono::steady_clock::now() + 1s; copying_.load(std::memory_order_acquire);) {
    if (std::chrono::steady_clock::now() > end) copying_ = false;  // in a forked child there is no such thread
    std::this_thread::sleep_for(2ms);
  }
}

const StoredTensor* WeightStore::find(const std::string& name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : &tensors_[at->second];
}

const StoredTensor& WeightStore::get(const std::string& name) const {
  const StoredTensor* t = find(name);
  if (t == nullptr) fail(ErrorKind::kCheckpoint, "the checkpoint has no tensor ", name);
  return *t;
}

const LinearWeight& WeightStore::linear(const std::string& name, int64_t rows, int64_t cols) const {
  const StoredTensor& t = get(name);
  if (!t.is_linear || t.linear.rows != rows || t.linear.cols != cols) {
    fail(ErrorKind::kCheckpoint, name, ": expected a packed linear of ", shape_text({rows, cols}), ", got ", describe(t));
  }
  return t.linear;
}

const StoredTensor& WeightStore::array(const std::string& name, const char* dtype, int64_t count) const {
  const StoredTensor& t = get(name);
  if (t.is_linear || t.dtype != dtype || t.bytes != static_cast<size_t>(count) * dtype_bytes(dtype)) {
    fail(ErrorKind::kCheckpoint, name, ": expected ", count, " elements of ", dtype, ", got ", describe(t));
  }
  return t;
}

const float* WeightStore::floats(const std::string& name, int64_t count) const {
  return reinterpret_cast<const float*>(array(name, "F32", count).data);
}

const int8_t* WeightStore::int8s(const std::string& name, int64_t count) const {
  return reinterpret_cast<const int8_t*>(array(name, "I8", count).data);
}

}  // namespace hvl

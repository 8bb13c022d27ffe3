#include "csrc/remote/wire.h"

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/schedule/access.h"

namespace hvl {
namespace {

constexpr size_t kHashBytes = 8;

constexpr int32_t kMostSide = 1 << 24;

// What is wrong with the taps from a side of `in` to one of `out`.
std::string taps_fault(const ResizeTaps& t, int32_t in, int32_t out) {
  if (in == out) return t.taps == 0 && t.first.empty() && t.weights.empty() ? "" : "resizing: taps for a side that stays";
  if (t.taps < 1 || t.taps > in || t.first.size() != size_t(out) || t.weights.size() != uint64_t(out) * uint32_t(t.taps)) {
    return joined("resizing: ", t.first.size(), " outputs and ", t.weights.size(), " weights, for ", t.taps, " taps from ", in, " to ", out);
  }
  for (int32_t i = 0; i < out; ++i) {
    if (t.first[i] < (i > 0 ? t.first[i - 1] : 0) || t.first[i] > in - t.taps) return joined("resizing: output ", i, " begins at ", t.first[i], " of ", in);
    int64_t sum = 0;
    for (int32_t k = 0; k < t.taps; ++k) {
      const int64_t weight = t.weights[size_t(i) * size_t(t.taps) + size_t(k)];
      sum += weight < 0 ? -weight : weight;
    }
    if (sum > kResizeMostSum) return joined("resizing: weights of output ", i, " are too large");
  }
  return {};
}

int32_t rows_of(const Buffer& b, const RunScalars& run) { return b.dynamic_rows ? run.rows : b.max_rows; }

}  // namespace

std::vector<uint8_t> WireWriter::finish() {
  const uint64_t hash = hash64(bytes_.data() + 4, bytes_.size() - 4);
  (*this)(hash);
  const auto length = uint32_t(bytes_.size() - 4);
  std::memcpy(bytes_.data(), &length, sizeof length);
  return std::move(bytes_);
}

WireReader::WireReader(const uint8_t* message, size_t bytes) : at_(message), end_(message + bytes) {
  if (bytes < 2 * 4 + kHashBytes) {
    good_ = false;
    return;
  }
  end_ -= kHashBytes;
  uint64_t hash;
  std::memcpy(&hash, end_, sizeof hash);
  uint32_t magic = 0;
  (*this)(magic);
  (*this)(kind_);
  good_ = magic == kWireMagic && hash == hash64(message, bytes - kHashBytes);
}

std::vector<BoundPart> bound_parts(const Program& program, const RunRequest& request) {
  std::vector<BoundPart> parts;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Buffer& b = program.buffers[i];
    if (b.space != Space::kBound) continue;
    BoundPart part{BufferId(i), false, false, 0, rows_bytes(b, rows_of(b, request.run))};
    for (const Op& op : program.ops) {
      const bool in = std::find(op.in.begin(), op.in.end(), part.id) != op.in.end(), out = op.out == part.id;
      if (in || (out && reads_output(op))) part.read |= !part.written;
      if (out) part.written = true;
      if (in && op.kind == OpKind::kRope && op.out != part.id) {
        part.offset = rows_bytes(b, request.run.position);
        part.bytes = rows_bytes(b, rows_of(program.buffers[op.out], request.run));
      }
      if (op.kind == OpKind::kPatchify && op.in[0] == part.id) part.bytes = int64_t(request.image_height) * request.image_width * 3;
    }
    if (part.read || part.written) parts.push_back(part);
  }
  return parts;
}

int64_t most_bound_bytes(const Program& program, BufferId id) {
  auto bytes = int64_t(program.buffers[id].bytes());
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::kPatchify && op.in[0] == id) bytes = std::max(bytes, int64_t(op.i[0]) * op.i[2] * op.i[1] * op.i[2] * 3);
  }
  return bytes;
}

std::string resizing_fault(const Resizing& how) {
  for (const int32_t side : {how.in_height, how.in_width, how.height, how.width}) {
    if (side < 1 || side > kMostSide) return joined("resizing: a side of ", side);
  }
  if (how.in_bytes() > int64_t(kMostMessage) || how.out_bytes() > int64_t(kMostMessage)) return "resizing: an image that does not fit into a message";
  const std::string fault = taps_fault(how.across, how.in_width, how.width);
  return fault.empty() ? taps_fault(how.down, how.in_height, how.height) : fault;
}

std::string run_fault(const Program& program, const RunRequest& request) {
  const RunScalars& run = request.run;
  for (const Buffer& b : program.buffers) {
    if (b.dynamic_rows && (run.rows < 1 || run.rows > b.max_rows)) return joined("a run of ", run.rows, " rows: expected 1 .. ", b.max_rows);
  }
  if (run.position < 0) return joined("a run at position ", run.position);
  for (const Op& op : program.ops) {
    const int32_t rows = rows_of(program.buffers[op.kind == OpKind::kKvStore ? op.in[0] : op.out], run);
    int32_t limit = INT32_MAX;
    if (op.state != kNone) limit = program.states[op.state].capacity;
    if (op.kind == OpKind::kRope) limit = program.buffers[op.in[1]].max_rows;
    if (run.position > limit - rows) return joined("a run of positions ", run.position, " .. + ", rows, ", of which there are ", limit);
  }
  bool image = false;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kPatchify) continue;
    image = true;
    const int64_t height = int64_t(op.i[0]) * op.i[2], width = int64_t(op.i[1]) * op.i[2];
    if (request.image_height < 0 || request.image_height > height || request.image_width < 0 || request.image_width > width) {
      return joined("an image of ", request.image_height, " x ", request.image_width, " pixels: expected at most ", height, " x ", width);
    }
  }
  if (!image && (request.image_height != 0 || request.image_width != 0)) return "an image for a program that takes none";
  return {};
}

}  // namespace hvl

// Messages between the engine and the program on the DSP (hexagon/dsp): Programs, Plans and weights once, then scalars and bound buffers of
// every run. Little endian; every message is
//   magic, kind or status (uint32 each); the fields of that kind; hash64 of all that (uint64)
// behind its length (uint32). Each field is described once, by what both WireWriter and WireReader are passed through (`fields`). A WireReader never
// reads beyond the message and allocates no more than a few times its bytes; what it then holds is checked by program_fault and plan_fault.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "csrc/program/program.h"
#include "csrc/runtime/executable.h"
#include "csrc/runtime/resizer.h"

namespace hvl {

inline constexpr uint32_t kWireMagic = 0x32445648;  // "HVD2": raise the digit when a message changes
inline constexpr uint32_t kMostMessage = 256u << 20;
inline constexpr int32_t kMostRemoteThreads = 16;
static_assert(std::endian::native == std::endian::little);

enum class Request : uint32_t {
  kOpen = 1,  // OpenRequest. Once, first
  kPut,       // id, bytes: a weight
  kLoad,      // LoadRequest
  kCaches,    // CachesRequest: KV caches, zeroed
  kRun,       // RunRequest, then the bytes of each bound part that is read (bound_parts)
  kCancel,    // nothing; not answered. Ends the run or resizing in progress, if there is one
  kResize,    // Resizing, then the image's bytes; the reply has those of the resized image
  kPutMapped = 16,  // PutMappedRequest: a weight that lies in memory of the host
};

enum class Status : uint32_t {
  kOk = 0,
  kMalformed = 1,  // no message as above, or damaged
  kInvalid = 2,    // a message that asks for what cannot be
  kMemory = 3,
  kCancelled = 4,
  kFatal = 5,      // the program has ended
};

struct OpenRequest {
  int32_t threads = 1;
  int64_t budget = 0;  // bytes of fast memory
};

// The device reads the weight where it lies, in a buffer that the host has shared under the number of a file, for as long as the program runs.
struct PutMappedRequest {
  uint32_t id = 0;
  int32_t fd = -1;
  uint64_t buffer_bytes = 0;        // of the buffer, the same every time
  uint64_t offset = 0, bytes = 0;   // of the weight, from a multiple of 128 on
};

struct LoadRequest {
  uint32_t id = 0;
  Program program;
  Plan plan;
  std::vector<uint32_t> weights;  // ids of kPut and kPutMapped, parallel to program.weights
};

struct CachesRequest {
  int32_t layers = 0;
  StateShape shape;
};

struct RunRequest {
  uint32_t id = 0;
  RunScalars run;
  int32_t image_height = 0, image_width = 0;  // of the tile's rectangle, which is the whole image that is sent
  uint32_t eager = 0;                         // csrc/runtime/dma.h
};

// What the kernel steps of an op took in a run, in the thread that runs the program.
struct OpCounts {
  uint64_t steps = 0, packets = 0, hvx_instructions = 0;
};

// Every reply: the text of an error; what a run or resizing took; then the bytes that it wrote, of a run of each bound part.
struct Reply {
  std::string text;
  uint64_t packets = 0;                 // of that thread: of its kernels and of all else between them
  std::vector<OpCounts> ops;            // of a run: parallel to the program's
  int64_t bytes_in = 0, bytes_out = 0;  // by transfers
  int64_t fast_peak = 0;                // bytes of fast memory that anything has written so far
};

class WireWriter {
 public:
  explicit WireWriter(uint32_t kind) {
    (*this)(kWireMagic);
    (*this)(kind);
  }

  template <typename T>
  void operator()(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      (*this)(uint32_t(value.size()));
      append(value.data(), value.size());
    } else if constexpr (std::is_same_v<T, bool>) {
      (*this)(uint8_t(value));
    } else {
      static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
      append(&value, sizeof value);
    }
  }
  template <typename T, typename Each>
  void list(const std::vector<T>& values, uint32_t, const Each& each) {
    (*this)(uint32_t(values.size()));
    for (const T& value : values) each(value);
  }
  void append(const void* data, size_t bytes) {
    if (bytes == 0) return;
    const size_t at = bytes_.size();
    bytes_.resize(at + bytes);
    std::memcpy(bytes_.data() + at, data, bytes);
  }
  std::vector<uint8_t> finish();  // with its length and hash

 private:
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(4);
};

class WireReader {
 public:
  // A message without its length. Where magic or hash are wrong nothing is read.
  WireReader(const uint8_t* message, size_t bytes);

  bool good() const { return good_; }
  uint32_t kind() const { return kind_; }
  size_t left() const { return size_t(end_ - at_); }

  template <typename T>
  void operator()(T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      uint32_t bytes = 0;
      (*this)(bytes);
      if (const uint8_t* from = take(bytes)) value.assign(reinterpret_cast<const char*>(from), bytes);
    } else if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      (*this)(byte);
      if (byte > 1) good_ = false;
      value = byte == 1;
    } else {
      static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
      if (const uint8_t* from = take(sizeof value)) std::memcpy(&value, from, sizeof value);
    }
  }
  // least: bytes that an element takes at least, so that a count can be believed.
  template <typename T, typename Each>
  void list(std::vector<T>& values, uint32_t least, const Each& each) {
    uint32_t count = 0;
    (*this)(count);
    if (count > left() / least) good_ = false;
    if (!good_) return;
    values.resize(count);
    for (T& value : values) each(value);
  }
  const uint8_t* take(size_t bytes) {
    if (!good_ || bytes > left()) {
      good_ = false;
      return nullptr;
    }
    const uint8_t* from = at_;
    at_ += bytes;
    return from;
  }

 private:
  const uint8_t *at_, *end_;
  uint32_t kind_ = 0;
  bool good_ = true;
};

// fields(io, message): io is a WireWriter and the message const, or a WireReader.
template <typename Io, typename T>
void fields(Io& io, T& t) {
  using M = std::remove_const_t<T>;
  const auto all = [&](auto&... values) { (io(values), ...); };
  const auto each = [&](auto& values) {
    for (auto& value : values) io(value);
  };
  if constexpr (std::is_same_v<M, OpenRequest>) {
    all(t.threads, t.budget);
  } else if constexpr (std::is_same_v<M, PutMappedRequest>) {
    all(t.id, t.fd, t.buffer_bytes, t.offset, t.bytes);
  } else if constexpr (std::is_same_v<M, LoadRequest>) {
    io(t.id);
    fields(io, t.program);
    fields(io, t.plan);
    io.list(t.weights, 4, [&](auto& value) { io(value); });
  } else if constexpr (std::is_same_v<M, CachesRequest>) {
    io(t.layers);
    fields(io, t.shape);
  } else if constexpr (std::is_same_v<M, RunRequest>) {
    all(t.id, t.run.rows, t.run.position, t.image_height, t.image_width, t.eager);
  } else if constexpr (std::is_same_v<M, Resizing>) {
    all(t.in_height, t.in_width, t.height, t.width);
    fields(io, t.across);
    fields(io, t.down);
  } else if constexpr (std::is_same_v<M, ResizeTaps>) {  // without the digits, which this CPU's instructions want
    io(t.taps);
    io.list(t.first, 4, [&](auto& value) { io(value); });
    io.list(t.weights, 4, [&](auto& value) { io(value); });
  } else if constexpr (std::is_same_v<M, Reply>) {
    all(t.text, t.packets, t.bytes_in, t.bytes_out, t.fast_peak);
    io.list(t.ops, 24, [&](auto& value) { fields(io, value); });
  } else if constexpr (std::is_same_v<M, OpCounts>) {
    all(t.steps, t.packets, t.hvx_instructions);
  } else if constexpr (std::is_same_v<M, Buffer>) {
    all(t.name, t.space, t.dtype, t.max_rows, t.dynamic_rows, t.cols, t.group_size, t.bits);
  } else if constexpr (std::is_same_v<M, Op>) {
    io(t.kind);
    each(t.in);
    io(t.out);
    each(t.weight);
    io(t.state);
    each(t.i);
    each(t.f);
  } else if constexpr (std::is_same_v<M, ProgramSection>) {
    all(t.name, t.first_op, t.op_count, t.repeat, t.weight_slots, t.first_weight);
  } else if constexpr (std::is_same_v<M, WeightShape>) {
    auto bytes = uint64_t(t.bytes);
    all(t.rows, t.cols, t.bits, t.group_size, t.scale_bits, t.zero_points, bytes);
    if constexpr (!std::is_const_v<T>) t.bytes = bytes > UINT32_MAX ? SIZE_MAX : size_t(bytes);  // refused by program_fault
  } else if constexpr (std::is_same_v<M, StateShape>) {
    all(t.kv_heads, t.head_dim, t.capacity, t.bits);
  } else if constexpr (std::is_same_v<M, Program>) {
    const auto record = [&](auto& value) { fields(io, value); };
    io(t.name);
    io.list(t.buffers, 23, record);
    io.list(t.ops, 55, record);
    io.list(t.sections, 24, record);
    io.list(t.weights, 4, [&](auto& value) { io(value); });
    io.list(t.shapes, 32, record);
    io.list(t.states, 16, record);
  } else if constexpr (std::is_same_v<M, PlanGroup>) {
    all(t.section, t.first_op, t.op_count, t.block_rows);
  } else if constexpr (std::is_same_v<M, PlanOp>) {
    all(t.block_units, t.block_keys, t.scratch_offset, t.scratch_bytes);
  } else if constexpr (std::is_same_v<M, BufferPlan>) {
    all(t.home, t.offset);
  } else if constexpr (std::is_same_v<M, Window>) {
    all(t.group, t.buffer, t.offset, t.bytes);
  } else {
    static_assert(std::is_same_v<M, Plan>);
    const auto record = [&](auto& value) { fields(io, value); };
    all(t.version, t.program, t.spec, t.staged, t.contexts, t.budget, t.peak_bytes, t.ddr_bytes, t.ring_offset, t.ring_slot_bytes);
    io.list(t.groups, 16, record);
    io.list(t.ops, 24, record);
    io.list(t.buffers, 9, record);
    io.list(t.windows, 22, record);
  }
}

// What of a bound buffer crosses the wire in a run: bytes from `offset` on, before the run and after it.
struct BoundPart {
  BufferId id;
  bool read, written;
  int64_t offset, bytes;
};
// Of a Program and scalars that were checked (run_fault). Rotation tables: the run's positions; the image: the tile's rectangle, lines
// without a gap; others: the run's rows.
std::vector<BoundPart> bound_parts(const Program& program, const RunRequest& request);

// Bytes that a bound buffer needs for any run: more than its own for an image.
int64_t most_bound_bytes(const Program& program, BufferId id);

// What is wrong with it, or an empty string.
std::string resizing_fault(const Resizing& how);

// What is wrong with a run's scalars, or an empty string.
std::string run_fault(const Program& program, const RunRequest& request);

}  // namespace hvl

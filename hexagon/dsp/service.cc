#include "hexagon/dsp/service.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/remote/check_program.h"

namespace hvl {
namespace {

constexpr int32_t kMostLayers = 4096;
constexpr int64_t kMostBudget = int64_t(1) << 30;
constexpr int64_t kMostMemory = (int64_t(1) << 31) - 1;  // of one arena

std::vector<uint8_t> encoded(Status status, const Reply& reply, const std::vector<std::pair<const uint8_t*, size_t>>& outputs) {
  WireWriter writer{uint32_t(status)};
  fields(writer, reply);
  for (const auto& [data, bytes] : outputs) writer.append(data, bytes);
  return writer.finish();
}

// Counters have 32 bits, which a step does not fill.
struct Meter {
  Reply& reply;
  Counts last;

  void count(const Step& step, bool behind) {
    const Counts now = read_counters(), passed = now - last;
    last = now;
    reply.packets += passed.packets;
    if (!behind) return;
    OpCounts& op = reply.ops[size_t(step.op)];
    ++op.steps;
    op.packets += passed.packets;
    op.hvx_instructions += passed.hvx_instructions;
  }
};

bool same(const StateShape& a, const StateShape& b) {
  return a.kv_heads == b.kv_heads && a.head_dim == b.head_dim && a.capacity == b.capacity && a.bits == b.bits;
}

}  // namespace

std::vector<uint8_t> Service::answer(const uint8_t* message, size_t bytes) {
  WireReader reader(message, bytes);
  Reply reply;
  std::vector<std::pair<const uint8_t*, size_t>> outputs;
  const auto handle = [&]() -> Outcome {
    if (!reader.good()) return Refusal{Status::kMalformed, "not a message of this version, or a damaged one"};
    const auto kind = Request(reader.kind());
    if (kind != Request::kOpen && !pool_) return Refusal{Status::kInvalid, "nothing was opened yet"};
    switch (kind) {
      case Request::kOpen:
        return open(reader);
      case Request::kPut:
        return put(reader);
      case Request::kPutMapped:
        return put_mapped(reader);
      case Request::kLoad:
        return load(reader);
      case Request::kCaches:
        return caches(reader);
      case Request::kRun:
        return run(reader, reply, outputs);
      case Request::kResize:
        return resize(reader, reply, outputs);
      case Request::kCancel:  // of a run that had ended
        return std::nullopt;
    }
    return Refusal{Status::kMalformed, "a message of unknown kind"};
  };
  const Outcome refusal = handle();
  if (!refusal && Request(reader.kind()) == Request::kCancel) return {};
  if (refusal) reply.text = refusal->text;
  return encoded(refusal ? refusal->status : Status::kOk, reply, outputs);
}

Service::Outcome Service::open(WireReader& reader) {
  OpenRequest request;
  fields(reader, request);
  if (!reader.good() || reader.left() != 0) return Refusal{Status::kMalformed, "open: the message has another length"};
  if (pool_) return Refusal{Status::kInvalid, "open: it is open already"};
  if (request.threads < 1 || request.threads > kMostRemoteThreads || request.budget < 1 || request.budget > kMostBudget) {
    return Refusal{Status::kInvalid, joined("open: ", request.threads, " threads and ", request.budget, " bytes of fast memory: expected 1 .. ",
                                            kMostRemoteThreads, " and 1 .. ", kMostBudget)};
  }
  if (const std::string fault = fast_.reserve(size_t(request.budget)); !fault.empty()) return Refusal{Status::kMemory, fault};
  pool_ = std::make_unique<ThreadPool>(request.threads);
  resizer_ = std::make_unique<Resizer>(kernels_, *pool_);
  return std::nullopt;
}

Service::Outcome Service::put(WireReader& reader) {
  uint32_t id = 0;
  reader(id);
  const size_t bytes = reader.left();
  const uint8_t* from = reader.take(bytes);
  if (!reader.good() || bytes == 0) return Refusal{Status::kMalformed, "put: no bytes"};
  if (weights_.contains(id)) return Refusal{Status::kInvalid, joined("put: weight ", id, " is there already")};
  Arena memory;
  if (!Arena::make(bytes, memory)) return Refusal{Status::kMemory, joined("no ", bytes, " bytes for a weight")};
  std::memcpy(memory.data(), from, bytes);
  const uint8_t* data = memory.data();
  weights_[id] = {std::move(memory), data, bytes};
  return std::nullopt;
}

Service::Outcome Service::put_mapped(WireReader& reader) {
  PutMappedRequest request;
  fields(reader, request);
  if (!reader.good() || reader.left() != 0) return Refusal{Status::kMalformed, "put mapped: the message has another length"};
  if (weights_.contains(request.id)) return Refusal{Status::kInvalid, joined("put mapped: weight ", request.id, " is there already")};
  const uint64_t size = request.buffer_bytes;
  if (size > uint64_t(kMostMemory) || request.bytes == 0 || request.offset % 128 != 0 || request.offset > size || request.bytes > size - request.offset) {
    return Refusal{Status::kInvalid, joined("put mapped: ", request.bytes, " bytes at ", request.offset, " of a buffer of ", size)};
  }
  HostBuffer& buffer = mapped_[request.fd];
  if (!buffer.data() && !buffer.map(request.fd, size_t(size))) {
    mapped_.erase(request.fd);
    return Refusal{Status::kInvalid, joined("put mapped: file ", request.fd, " is no buffer of ", size, " bytes here")};
  }
  if (buffer.bytes() != size) return Refusal{Status::kInvalid, joined("put mapped: file ", request.fd, " is a buffer of ", buffer.bytes(), " bytes, not ", size)};
  weights_[request.id] = {Arena(), buffer.data() + request.offset, size_t(request.bytes)};
  return std::nullopt;
}

Service::Outcome Service::load(WireReader& reader) {
  LoadRequest request;
  fields(reader, request);
  if (!reader.good() || reader.left() != 0) return Refusal{Status::kMalformed, "load: the message has another length"};
  if (loaded_.contains(request.id)) return Refusal{Status::kInvalid, joined("load: program ", request.id, " is there already")};
  Program& program = request.program;
  const Plan& plan = request.plan;
  std::string fault = program_fault(program);
  if (fault.empty()) fault = plan_fault(program, plan);
  if (!fault.empty()) return Refusal{Status::kInvalid, fault};
  if (plan.budget > int64_t(fast_.bytes())) return Refusal{Status::kInvalid, joined("the plan needs ", plan.budget, " bytes of fast memory, there are ", fast_.bytes())};
  if (plan.contexts < pool_->threads()) return Refusal{Status::kInvalid, joined("the plan is for ", plan.contexts, " threads, there are ", pool_->threads())};
  if (request.weights.size() != program.weights.size()) return Refusal{Status::kInvalid, "load: more or fewer weights than the program has"};

  std::vector<ResolvedWeight> weights;
  for (size_t w = 0; w < request.weights.size(); ++w) {
    const auto found = weights_.find(request.weights[w]);
    const WeightShape& shape = program.shapes[w];
    if (found == weights_.end() || found->second.bytes != shape.bytes) {
      return Refusal{Status::kInvalid, joined("load: weight ", request.weights[w], " is not there, or not of ", shape.bytes, " bytes")};
    }
    ResolvedWeight resolved;
    resolved.bytes = shape.bytes;
    if (shape.rows > 0) {
      resolved.linear = {found->second.data, shape.rows, shape.cols, shape.bits, shape.group_size, shape.scale_bits, shape.zero_points};
    } else {
      resolved.data = found->second.data;
    }
    weights.push_back(resolved);
  }

  auto loaded = std::make_unique<Loaded>();
  int64_t total = 0;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    loaded->offsets.push_back(total);
    if (program.buffers[i].space == Space::kBound) total += plan_aligned(most_bound_bytes(program, BufferId(i)));
  }
  if (total > kMostMemory || plan.ddr_bytes > kMostMemory || !Arena::make(size_t(total), loaded->memory)) {
    return Refusal{Status::kMemory, joined("no ", total, " bytes for bound buffers and ", plan.ddr_bytes, " for others")};
  }
  if (plan.ddr_bytes > int64_t(ddr_.bytes())) {
    Arena larger;
    if (!Arena::make(size_t(plan.ddr_bytes), larger)) return Refusal{Status::kMemory, joined("no ", plan.ddr_bytes, " bytes for buffers")};
    ddr_ = std::move(larger);
  }
  loaded->executable = make_executable(std::move(program), std::move(weights), std::move(request.plan));
  loaded_[request.id] = std::move(loaded);
  return std::nullopt;
}

Service::Outcome Service::caches(WireReader& reader) {
  CachesRequest request;
  fields(reader, request);
  if (!reader.good() || reader.left() != 0) return Refusal{Status::kMalformed, "caches: the message has another length"};
  const StateShape& s = request.shape;
  if (const std::string fault = state_fault(s); !fault.empty()) return Refusal{Status::kInvalid, fault};
  if (request.layers < 1 || request.layers > kMostLayers) return Refusal{Status::kInvalid, joined("caches of ", request.layers, " layers")};
  const int64_t side = kv_side_bytes(s.kv_heads, s.head_dim, s.capacity, s.bits), total = 2 * side * request.layers;
  Arena memory;
  if (total > kMostMemory || !Arena::make(size_t(total), memory)) return Refusal{Status::kMemory, joined("no ", total, " bytes for KV caches")};
  kv_ = std::move(memory);
  caches_.clear();
  cache_shape_ = s;
  for (int32_t l = 0; l < request.layers; ++l) {
    uint8_t* k = kv_.data() + 2 * side * l;
    caches_.push_back({k, k + side, s.kv_heads, s.head_dim, s.capacity, s.bits});
  }
  return std::nullopt;
}

Service::Outcome Service::run(WireReader& reader, Reply& reply, std::vector<std::pair<const uint8_t*, size_t>>& outputs) {
  RunRequest request;
  fields(reader, request);
  if (!reader.good()) return Refusal{Status::kMalformed, "run: the message is too short"};
  const auto found = loaded_.find(request.id);
  if (found == loaded_.end()) return Refusal{Status::kInvalid, joined("run: there is no program ", request.id)};
  Loaded& loaded = *found->second;
  const Program& program = loaded.executable.program;
  if (const std::string fault = run_fault(program, request); !fault.empty()) return Refusal{Status::kInvalid, joined("run of ", program.name, ": ", fault)};
  for (const StateShape& s : program.states) {
    if (!same(s, cache_shape_)) return Refusal{Status::kInvalid, joined("run of ", program.name, ": there are no KV caches of its shape")};
  }
  for (const ProgramSection& section : program.sections) {
    if (!program.states.empty() && section.repeat > int32_t(caches_.size())) {
      return Refusal{Status::kInvalid, joined("run of ", program.name, ": there are ", caches_.size(), " KV caches, it needs ", section.repeat)};
    }
  }

  const std::vector<BoundPart> parts = bound_parts(program, request);
  int64_t expected = 0;
  for (const BoundPart& part : parts) expected += part.read ? part.bytes : 0;
  if (expected != int64_t(reader.left())) {
    return Refusal{Status::kMalformed, joined("run of ", program.name, ": ", reader.left(), " bytes of bound buffers, expected ", expected)};
  }
  RunArgs args;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    if (program.buffers[i].space == Space::kBound) args.bound[i] = loaded.memory.data() + loaded.offsets[i];
  }
  for (const BoundPart& part : parts) {
    uint8_t* const memory = static_cast<uint8_t*>(args.bound[part.id]) + part.offset;
    if (part.read) std::memcpy(memory, reader.take(size_t(part.bytes)), size_t(part.bytes));
    if (part.written) outputs.emplace_back(memory, size_t(part.bytes));
  }
  if (const std::string fault = ids_fault(loaded.executable, args, request.run); !fault.empty()) {
    outputs.clear();
    return Refusal{Status::kInvalid, joined("run of ", program.name, ": ", fault)};
  }
  args.states = caches_.data();
  args.run = request.run;
  args.image_height = request.image_height;
  args.image_width = request.image_width;

  const CancelCheck cancel{[](void* context) { return static_cast<Service*>(context)->interrupted_(); }, this};
  TransferStats transfers;
  RunWatch watch;
  watch.transfers = &transfers;
  watch.eager_transfers = request.eager != 0;
  uint8_t* const fast = fast_.acquire(size_t(loaded.executable.plan.peak_bytes));
  if (!fast) {
    outputs.clear();
    return Refusal{Status::kMemory, joined("run of ", program.name, ": others keep the fast memory")};
  }
  reply.ops.resize(program.ops.size());
  Meter meter{reply, read_counters()};
  watch.step = {[](void* context, const Step& step, bool behind) { static_cast<Meter*>(context)->count(step, behind); }, &meter};
  const bool completed = Executor(kernels_, *pool_).run(loaded.executable, args, {fast, ddr_.data()}, cancel, watch);
  reply.fast_peak = fast_.release();
  reply.bytes_in = transfers.bytes_in;
  reply.bytes_out = transfers.bytes_out;
  if (completed) return std::nullopt;
  outputs.clear();
  reply = {};
  return Refusal{Status::kCancelled, "cancelled"};
}

Service::Outcome Service::resize(WireReader& reader, Reply& reply, std::vector<std::pair<const uint8_t*, size_t>>& outputs) {
  Resizing how;
  fields(reader, how);
  if (!reader.good()) return Refusal{Status::kMalformed, "resize: the message is too short"};
  if (const std::string fault = resizing_fault(how); !fault.empty()) return Refusal{Status::kInvalid, fault};
  if (how.in_bytes() != int64_t(reader.left())) {
    return Refusal{Status::kMalformed, joined("resize: ", reader.left(), " bytes of an image, expected ", how.in_bytes())};
  }
  const auto out_bytes = size_t(how.out_bytes());
  if (out_bytes > resized_.bytes() && !Arena::make(out_bytes, resized_)) return Refusal{Status::kMemory, joined("no ", out_bytes, " bytes for an image")};
  const Counts before = read_counters();
  const CancelCheck cancel{[](void* context) { return static_cast<Service*>(context)->interrupted_(); }, this};
  const Resized resized = resizer_->resize(reader.take(size_t(how.in_bytes())), how, resized_.data(), cancel);
  if (resized == Resized::kNoRoom) return Refusal{Status::kMemory, "no memory between the passes of resizing"};
  if (resized == Resized::kCancelled) return Refusal{Status::kCancelled, "cancelled"};
  reply.packets = (read_counters() - before).packets;
  outputs.emplace_back(resized_.data(), out_bytes);
  return std::nullopt;
}

}  // namespace hvl

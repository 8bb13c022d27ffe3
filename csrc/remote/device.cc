#include "csrc/remote/device.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/remote/fastrpc.h"
#include "csrc/remote/process.h"
#include "csrc/schedule/access.h"

namespace hvl {
namespace {

WireWriter request(Request kind) { return WireWriter(uint32_t(kind)); }

constexpr int kTicksToAskAgain = 50;
constexpr size_t kSharedBuffer = 256u << 20;  // of weights together, unless one is larger

ErrorKind kind_of(Status status) { return status == Status::kMemory ? ErrorKind::kMemory : ErrorKind::kDevice; }

const void* data_of(const ResolvedWeight& weight) { return weight.linear.data ? weight.linear.data : weight.data; }

int32_t layers_of(const Program& program) {
  int32_t layers = 0;
  for (const ProgramSection& section : program.sections) layers = std::max(layers, section.repeat);
  return layers;
}

const Op* patchify_of(const Program& program) {
  const auto found = std::find_if(program.ops.begin(), program.ops.end(), [](const Op& op) { return op.kind == OpKind::kPatchify; });
  return found == program.ops.end() ? nullptr : &*found;
}

}  // namespace

RemoteDevice::RemoteDevice(const RemoteOptions& options, int32_t threads, int64_t budget)
    : options_(options), threads_(std::min(threads, kMostRemoteThreads)), budget_(budget) {
  open_part();
}

bool RemoteDevice::failed() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->channel->ended(); });
}

RemoteDevice::Part& RemoteDevice::open_part() {
  auto part = std::make_unique<Part>();
  if (options_.library.empty()) {
    part->channel = std::make_unique<Process>(options_.command);
  } else {
    part->channel = std::make_unique<FastRpc>(options_.library, options_.arch, options_.timeout_s);
  }
  WireWriter message = request(Request::kOpen);
  const OpenRequest open{threads_, budget_};
  fields(message, open);
  ask_well(*part, std::move(message), "open");
  return *parts_.emplace_back(std::move(part));
}

RemoteDevice::Answer RemoteDevice::ask(Part& part, WireWriter&& message, const std::function<void()>& tick) {
  const std::vector<uint8_t> bytes = part.channel->exchange(message.finish(), options_.timeout_s, tick);
  WireReader reader(bytes.data(), bytes.size());
  Answer answer;
  fields(reader, answer.reply);
  if (!reader.good()) part.channel->end("gave a reply that is damaged, or of another version: build it again");
  answer.status = Status(reader.kind());
  const size_t left = reader.left();
  const uint8_t* rest = reader.take(left);
  answer.outputs.assign(rest, rest + left);
  return answer;
}

RemoteDevice::Answer RemoteDevice::ask_well(Part& part, WireWriter&& message, const char* what) {
  Answer answer = ask(part, std::move(message));
  if (answer.status != Status::kOk) fail(kind_of(answer.status), part.channel->name(), " refused ", what, ": ", answer.reply.text);
  return answer;
}

RemoteDevice::Answer RemoteDevice::ask_until(Part& part, WireWriter&& message, const CancelCheck& cancel) {
  bool asked = false;
  int ticks = 0;
  Answer answer = ask(part, std::move(message), [&] {
    if (!asked && (!cancel.requested || !cancel.requested(cancel.context))) return;
    asked = true;
    if (ticks++ % kTicksToAskAgain == 0) part.channel->cancel();  // one may come before the device has begun
  });
  if (asked && answer.status == Status::kOk) answer.status = Status::kCancelled;
  return answer;
}

int64_t RemoteDevice::bytes_for(const Part& part, const Executable& executable) const {
  std::set<const void*> counted;
  int64_t bytes = std::max<int64_t>(0, executable.plan.ddr_bytes - part.ddr_bytes);
  for (const ResolvedWeight& weight : executable.weights) {
    const void* data = data_of(weight);
    if (!part.weights.contains(data) && counted.insert(data).second) bytes += plan_aligned(int64_t(weight.bytes));
  }
  const Program& program = executable.program;
  int64_t bound = 0;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    if (program.buffers[i].space == Space::kBound) bound += plan_aligned(most_bound_bytes(program, BufferId(i)));
  }
  if (!part.caches && !program.states.empty()) {
    const StateShape& s = program.states[0];
    bytes += 2 * kv_side_bytes(s.kv_heads, s.head_dim, s.capacity, s.bits) * layers_of(program);
    bytes += bound;  // for the Program of single tokens, which has to come here too and shares all else
  }
  return bytes + bound;
}

RemoteDevice::Part& RemoteDevice::part_for(const Executable& executable) {
  for (const auto& part : parts_) {
    if (part->loaded.contains(&executable)) return *part;
  }
  const bool caches = !executable.program.states.empty();
  const auto with_caches = std::find_if(parts_.begin(), parts_.end(), [](const auto& part) { return part->caches; });
  for (const auto& part : parts_) {
    if (caches && with_caches != parts_.end() && part != *with_caches) continue;
    if (part->bytes + bytes_for(*part, executable) <= options_.window_bytes) return *part;
  }
  const int64_t needed = bytes_for(Part(), executable);
  if ((caches && with_caches != parts_.end()) || needed > options_.window_bytes) {
    fail(ErrorKind::kDevice, "program ", executable.program.name, " needs ", needed, " bytes in one session of the device, which addresses ", options_.window_bytes,
         ": fewer bits a weight or a shorter context need fewer");
  }
  return open_part();
}

// The weights that the device does not have yet, in shared memory where the channel has that.
void RemoteDevice::put(Part& part, const Executable& executable) {
  std::vector<std::pair<const void*, size_t>> missing;
  std::set<const void*> seen;
  for (const ResolvedWeight& weight : executable.weights) {
    if (!part.weights.contains(data_of(weight)) && seen.insert(data_of(weight)).second) missing.emplace_back(data_of(weight), weight.bytes);
  }
  for (size_t begin = 0, end = 0; begin < missing.size(); begin = end) {
    size_t total = 0;
    for (end = begin; end < missing.size() && (end == begin || total + missing[end].second <= kSharedBuffer); ++end) total += plan_aligned(missing[end].second);
    const SharedBuffer buffer = part.channel->allocate(total);
    size_t offset = 0;
    for (size_t i = begin; i < end && buffer.data; ++i) {
      std::memcpy(buffer.data + offset, missing[i].first, missing[i].second);
      offset += plan_aligned(missing[i].second);
    }
    if (buffer.data) part.channel->share(buffer);
    offset = 0;
    for (size_t i = begin; i < end; ++i) {
      const auto [data, bytes] = missing[i];
      const auto id = uint32_t(part.weights.size());
      WireWriter message = request(buffer.data ? Request::kPutMapped : Request::kPut);
      if (buffer.data) {
        const PutMappedRequest put{id, buffer.fd, buffer.bytes, offset, bytes};
        fields(message, put);
      } else {
        message(id);
        message.append(data, bytes);
      }
      ask_well(part, std::move(message), "a weight");
      part.weights[data] = id;
      offset += plan_aligned(bytes);
    }
  }
}

uint32_t RemoteDevice::load(Part& part, const Executable& executable) {
  if (const auto found = part.loaded.find(&executable); found != part.loaded.end()) return found->second;
  const int64_t bytes = bytes_for(part, executable);
  put(part, executable);
  LoadRequest load;
  load.id = uint32_t(part.loaded.size());
  load.program = executable.program;
  load.plan = executable.plan;
  for (const ResolvedWeight& weight : executable.weights) load.weights.push_back(part.weights.at(data_of(weight)));
  WireWriter message = request(Request::kLoad);
  fields(message, std::as_const(load));
  ask_well(part, std::move(message), "a program");
  make_caches(part, executable);
  part.bytes += bytes;
  part.ddr_bytes = std::max(part.ddr_bytes, executable.plan.ddr_bytes);
  part.loaded[&executable] = load.id;
  return load.id;
}

void RemoteDevice::make_caches(Part& part, const Executable& executable) {
  const Program& program = executable.program;
  if (part.caches || program.states.empty()) return;
  CachesRequest caches;
  caches.shape = program.states[0];
  caches.layers = layers_of(program);
  WireWriter message = request(Request::kCaches);
  fields(message, std::as_const(caches));
  ask_well(part, std::move(message), "KV caches");
  part.caches = true;
}

bool RemoteDevice::run(const Executable& executable, const RunArgs& args, const CancelCheck& cancel, bool eager, TransferStats& transfers) {
  const Program& program = executable.program;
  Part& part = part_for(executable);
  RunRequest run;
  run.id = load(part, executable);
  run.run = args.run;
  run.eager = eager;
  const Op* patchify = patchify_of(program);
  ImageRectangle image{0, 0, 0};
  if (patchify) image = image_rectangle(*patchify, args, 0, patchify->i[0] * patchify->i[1]);
  run.image_height = image.lines;
  run.image_width = image.columns;
  if (const std::string fault = run_fault(program, run); !fault.empty()) fail(ErrorKind::kRuntime, "program ", program.name, ": ", fault);

  WireWriter message = request(Request::kRun);
  fields(message, std::as_const(run));
  const std::vector<BoundPart> parts = bound_parts(program, run);
  for (const BoundPart& bound : parts) {
    if (!bound.read) continue;
    const auto* from = static_cast<const uint8_t*>(args.bound[bound.id]);
    if (patchify && bound.id == patchify->in[0]) {
      for (int32_t y = 0; y < image.lines; ++y) {
        message.append(from + ((int64_t(image.top) + y) * args.image_width + args.tile_left) * 3, size_t(image.columns) * 3);
      }
    } else {
      message.append(from + bound.offset, size_t(bound.bytes));
    }
  }
  const Answer answer = ask_until(part, std::move(message), cancel);
  if (answer.status == Status::kCancelled) return false;
  if (answer.status != Status::kOk) fail(kind_of(answer.status), part.channel->name(), ": ", answer.reply.text);
  const uint8_t* from = answer.outputs.data();
  size_t left = answer.outputs.size();
  for (const BoundPart& bound : parts) {
    if (!bound.written) continue;
    if (size_t(bound.bytes) > left) part.channel->end("gave too few bytes for program " + program.name);
    std::memcpy(static_cast<uint8_t*>(args.bound[bound.id]) + bound.offset, from, size_t(bound.bytes));
    from += bound.bytes;
    left -= size_t(bound.bytes);
  }
  transfers.bytes_in += answer.reply.bytes_in;
  transfers.bytes_out += answer.reply.bytes_out;
  fast_peak_ = answer.reply.fast_peak;
  RemoteCounts& counts = counts_[program.name];
  ++counts.runs;
  counts.packets += answer.reply.packets;
  if (answer.reply.ops.size() != program.ops.size()) part.channel->end("counted other ops than program " + program.name + " has");
  counts.program = &program;
  counts.ops.resize(program.ops.size());
  for (size_t o = 0; o < counts.ops.size(); ++o) {
    OpCounts& op = counts.ops[o];
    op.steps += answer.reply.ops[o].steps;
    op.packets += answer.reply.ops[o].packets;
    op.hvx_instructions += answer.reply.ops[o].hvx_instructions;
  }
  return true;
}

Resized RemoteDevice::resize(const uint8_t* rgb, const Resizing& how, uint8_t* out, const CancelCheck& cancel) {
  constexpr int64_t kMost = kMostMessage / 2;  // leaves room for the taps
  if (how.in_bytes() > kMost || how.out_bytes() > kMost) return Resized::kNoRoom;
  if (const std::string fault = resizing_fault(how); !fault.empty()) fail(ErrorKind::kRuntime, fault);
  Part& part = *parts_.front();
  WireWriter message = request(Request::kResize);
  fields(message, how);
  message.append(rgb, size_t(how.in_bytes()));
  const Answer answer = ask_until(part, std::move(message), cancel);
  if (answer.status == Status::kCancelled) return Resized::kCancelled;
  if (answer.status == Status::kMemory) return Resized::kNoRoom;
  if (answer.status != Status::kOk) fail(kind_of(answer.status), part.channel->name(), " refused to resize an image: ", answer.reply.text);
  if (int64_t(answer.outputs.size()) != how.out_bytes()) part.channel->end("gave an image of another size");
  std::memcpy(out, answer.outputs.data(), answer.outputs.size());
  RemoteCounts& counts = counts_["resize"];
  ++counts.runs;
  counts.packets += answer.reply.packets;
  return Resized::kDone;
}

}  // namespace hvl

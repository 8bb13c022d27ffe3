#include "csrc/remote/device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "csrc/base/error.h"

namespace hvl {
namespace {

WireWriter request(Request kind) { return WireWriter(uint32_t(kind)); }

ErrorKind kind_of(Status status) { return status == Status::kMemory ? ErrorKind::kMemory : ErrorKind::kRuntime; }

const Op* patchify_of(const Program& program) {
  const auto found = std::find_if(program.ops.begin(), program.ops.end(), [](const Op& op) { return op.kind == OpKind::kPatchify; });
  return found == program.ops.end() ? nullptr : &*found;
}

}  // namespace

RemoteDevice::RemoteDevice(const RemoteOptions& options, int32_t threads, int64_t budget) : options_(options), process_(options.command) {
  WireWriter message = request(Request::kOpen);
  const OpenRequest open{std::min(threads, kMostRemoteThreads), budget};
  fields(message, open);
  ask_well(std::move(message), "open");
}

RemoteDevice::Answer RemoteDevice::ask(WireWriter&& message, const std::function<void()>& tick) {
  const std::vector<uint8_t> bytes = process_.exchange(message.finish(), options_.timeout_s, tick);
  WireReader reader(bytes.data(), bytes.size());
  Answer answer;
  fields(reader, answer.reply);
  if (!reader.good()) process_.end("gave a reply that is damaged, or of another version: build it again");
  answer.status = Status(reader.kind());
  const size_t left = reader.left();
  const uint8_t* rest = reader.take(left);
  answer.outputs.assign(rest, rest + left);
  return answer;
}

RemoteDevice::Answer RemoteDevice::ask_well(WireWriter&& message, const char* what) {
  Answer answer = ask(std::move(message));
  if (answer.status != Status::kOk) fail(kind_of(answer.status), "the emulated device refused ", what, ": ", answer.reply.text);
  return answer;
}

uint32_t RemoteDevice::load(const Executable& executable) {
  if (const auto found = loaded_.find(&executable); found != loaded_.end()) return found->second;
  LoadRequest load;
  load.id = uint32_t(loaded_.size());
  load.program = executable.program;
  load.plan = executable.plan;
  for (const ResolvedWeight& weight : executable.weights) {
    const void* data = weight.linear.data ? weight.linear.data : weight.data;
    auto found = weights_.find(data);
    if (found == weights_.end()) {
      const auto id = uint32_t(weights_.size());
      WireWriter message = request(Request::kPut);
      message(id);
      message.append(data, weight.bytes);
      ask_well(std::move(message), "a weight");
      found = weights_.emplace(data, id).first;
    }
    load.weights.push_back(found->second);
  }
  WireWriter message = request(Request::kLoad);
  fields(message, std::as_const(load));
  ask_well(std::move(message), "a program");
  loaded_[&executable] = load.id;
  return load.id;
}

void RemoteDevice::make_caches(const Executable& executable) {
  const Program& program = executable.program;
  if (caches_ || program.states.empty()) return;
  CachesRequest caches;
  caches.shape = program.states[0];
  for (const ProgramSection& section : program.sections) caches.layers = std::max(caches.layers, section.repeat);
  WireWriter message = request(Request::kCaches);
  fields(message, std::as_const(caches));
  ask_well(std::move(message), "KV caches");
  caches_ = true;
}

bool RemoteDevice::run(const Executable& executable, const RunArgs& args, const CancelCheck& cancel, bool eager, TransferStats& transfers) {
  const Program& program = executable.program;
  make_caches(executable);
  RunRequest run;
  run.id = load(executable);
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
  for (const BoundPart& part : parts) {
    if (!part.read) continue;
    const auto* from = static_cast<const uint8_t*>(args.bound[part.id]);
    if (patchify && part.id == patchify->in[0]) {
      for (int32_t y = 0; y < image.lines; ++y) {
        message.append(from + ((int64_t(image.top) + y) * args.image_width + args.tile_left) * 3, size_t(image.columns) * 3);
      }
    } else {
      message.append(from + part.offset, size_t(part.bytes));
    }
  }
  bool asked = false;
  const Answer answer = ask(std::move(message), [&] {
    if (asked || !cancel.requested || !cancel.requested(cancel.context)) return;
    asked = true;
    process_.send(request(Request::kCancel).finish());
  });
  if (answer.status == Status::kCancelled) return false;
  if (answer.status != Status::kOk) fail(kind_of(answer.status), "the emulated device: ", answer.reply.text);
  const uint8_t* from = answer.outputs.data();
  size_t left = answer.outputs.size();
  for (const BoundPart& part : parts) {
    if (!part.written) continue;
    if (size_t(part.bytes) > left) process_.end("gave too few bytes for program " + program.name);
    std::memcpy(static_cast<uint8_t*>(args.bound[part.id]) + part.offset, from, size_t(part.bytes));
    from += part.bytes;
    left -= size_t(part.bytes);
  }
  transfers.bytes_in += answer.reply.bytes_in;
  transfers.bytes_out += answer.reply.bytes_out;
  fast_peak_ = answer.reply.fast_peak;
  RemoteCounts& counts = counts_[program.name];
  ++counts.runs;
  counts.packets += answer.reply.packets;
  if (answer.reply.ops.size() != program.ops.size()) process_.end("counted other ops than program " + program.name + " has");
  counts.program = &program;
  counts.ops.resize(program.ops.size());
  for (size_t o = 0; o < counts.ops.size(); ++o) {
    OpCounts& op = counts.ops[o];
    op.steps += answer.reply.ops[o].steps;
    op.packets += answer.reply.ops[o].packets;
    op.hvx_instructions += answer.reply.ops[o].hvx_instructions;
  }
  return !asked;
}

}  // namespace hvl

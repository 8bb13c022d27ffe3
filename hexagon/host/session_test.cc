// A host's session by itself, without Python: runs the Programs of a recorded stream of messages (csrc/remote/wire.h, as
// tools/hexagon/record_session.py writes it) on a device over FastRPC, and compares what every run gives with the replies recorded from the
// emulated program.
//
//   session_test LIBRARY STREAM REPLIES TIMEOUT_S
//
// Exit code 0 when all are the same; 1 when some are not; 2 where the device is an error, which it prints.
#include <stdio.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/remote/device.h"
#include "csrc/remote/wire.h"

namespace hvl {
namespace {

using Bytes = std::vector<uint8_t>;

// Messages without their lengths.
std::vector<Bytes> read_messages(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const Bytes all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<Bytes> messages;
  for (size_t at = 0; at + 4 <= all.size();) {
    uint32_t length;
    std::memcpy(&length, all.data() + at, sizeof length);
    if (length > all.size() - at - 4) fail(ErrorKind::kValue, path, " ends within a message");
    messages.emplace_back(all.begin() + std::ptrdiff_t(at + 4), all.begin() + std::ptrdiff_t(at + 4 + length));
    at += 4 + length;
  }
  return messages;
}

class Replay {
 public:
  Replay(const char* library, double timeout_s) { options_.library = library, options_.timeout_s = timeout_s; }

  // Runs one message; what the runs gave comes to `outputs`.
  void play(const Bytes& message, Bytes& outputs) {
    WireReader reader(message.data(), message.size());
    switch (Request(reader.kind())) {
      case Request::kOpen: {
        OpenRequest open;
        fields(reader, open);
        device_ = std::make_unique<RemoteDevice>(options_, open.threads, open.budget);
        return;
      }
      case Request::kPut: {
        uint32_t id = 0;
        reader(id);
        const size_t bytes = reader.left();
        const uint8_t* from = reader.take(bytes);
        weights_[id].assign(from, from + bytes);
        return;
      }
      case Request::kLoad:
        return load(reader);
      case Request::kRun:
        return run(reader, outputs);
      default:
        return;  // KV caches are made with the program that needs them
    }
  }

 private:
  struct Loaded {
    Executable executable;
    std::map<BufferId, Bytes> bound;
  };

  void load(WireReader& reader) {
    LoadRequest request;
    fields(reader, request);
    std::vector<ResolvedWeight> weights;
    for (size_t w = 0; w < request.weights.size(); ++w) {
      const Bytes& bytes = weights_.at(request.weights[w]);
      const WeightShape& shape = request.program.shapes[w];
      ResolvedWeight resolved;
      resolved.bytes = bytes.size();
      if (shape.rows > 0) {
        resolved.linear = {bytes.data(), shape.rows, shape.cols, shape.bits, shape.group_size, shape.scale_bits, shape.zero_points};
      } else {
        resolved.data = bytes.data();
      }
      weights.push_back(resolved);
    }
    Loaded& loaded = loaded_[request.id];
    for (size_t i = 0; i < request.program.buffers.size(); ++i) {
      if (request.program.buffers[i].space == Space::kBound) loaded.bound[BufferId(i)].resize(size_t(most_bound_bytes(request.program, BufferId(i))));
    }
    loaded.executable = make_executable(std::move(request.program), std::move(weights), std::move(request.plan));
  }

  void run(WireReader& reader, Bytes& outputs) {
    RunRequest request;
    fields(reader, request);
    Loaded& loaded = loaded_.at(request.id);
    const std::vector<BoundPart> parts = bound_parts(loaded.executable.program, request);
    RunArgs args;
    for (auto& [id, memory] : loaded.bound) args.bound[id] = memory.data();
    for (const BoundPart& part : parts) {
      if (part.read) std::memcpy(loaded.bound.at(part.id).data() + part.offset, reader.take(size_t(part.bytes)), size_t(part.bytes));
    }
    args.run = request.run;
    args.image_height = request.image_height;
    args.image_width = request.image_width;
    TransferStats transfers;
    device_->run(loaded.executable, args, {}, request.eager != 0, transfers);
    for (const BoundPart& part : parts) {
      const uint8_t* from = loaded.bound.at(part.id).data() + part.offset;
      if (part.written) outputs.insert(outputs.end(), from, from + part.bytes);
    }
  }

  RemoteOptions options_;
  std::unique_ptr<RemoteDevice> device_;
  std::map<uint32_t, Bytes> weights_;
  std::map<uint32_t, Loaded> loaded_;
};

int compare(const char* library, const char* stream, const char* replies, double timeout_s) {
  Replay replay(library, timeout_s);
  const std::vector<Bytes> messages = read_messages(stream), recorded = read_messages(replies);
  int runs = 0, wrong = 0;
  for (size_t m = 0; m < messages.size(); ++m) {
    Bytes outputs;
    replay.play(messages[m], outputs);
    WireReader request(messages[m].data(), messages[m].size());
    if (Request(request.kind()) != Request::kRun) continue;
    ++runs;
    WireReader reader(recorded.at(m).data(), recorded.at(m).size());
    Reply reply;
    fields(reader, reply);
    const size_t left = reader.left();
    const uint8_t* expected = reader.take(left);
    if (left == 0 || left != outputs.size() || std::memcmp(expected, outputs.data(), left) != 0) ++wrong;
  }
  printf("%d runs, %d of them wrong\n", runs, wrong);
  return runs > 0 && wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hvl

int main(int count, char** arguments) {
  if (count != 5) return 1;
  try {
    return hvl::compare(arguments[1], arguments[2], arguments[3], atof(arguments[4]));
  } catch (const hvl::Error& error) {
    printf("error of kind %d: %s\n", int(error.kind()), error.what());
    return 2;
  }
}

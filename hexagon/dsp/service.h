// What the program on the DSP keeps, and how it answers messages (csrc/remote/wire.h). Portable: tests run it on the host too.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/base/arena.h"
#include "csrc/base/thread_pool.h"
#include "csrc/remote/wire.h"
#include "csrc/runtime/executor.h"
#include "hexagon/dsp/platform.h"

namespace hvl {

class Service {
 public:
  // interrupted: asked now and then during a run or resizing; true: stop it.
  Service(const KernelTable& kernels, bool (*interrupted)()) : kernels_(kernels), interrupted_(interrupted) {}

  // The reply to a message without its length, with its own; empty for kCancel. Whatever the bytes are, the service goes on afterwards as if
  // a message that was refused had not come. (A run that is cancelled, or fails, leaves bound buffers and caches written in part.)
  std::vector<uint8_t> answer(const uint8_t* message, size_t bytes);

 private:
  struct Loaded {
    Executable executable;
    Arena memory;                  // of bound buffers
    std::vector<int64_t> offsets;  // by buffer; of those that are bound
  };
  struct Weight {
    Arena own;  // empty where the host's memory is read
    const uint8_t* data;
    size_t bytes;
  };
  struct Refusal {
    Status status;
    std::string text;
  };
  using Outcome = std::optional<Refusal>;

  Outcome open(WireReader& reader);
  Outcome put(WireReader& reader);
  Outcome put_mapped(WireReader& reader);
  Outcome load(WireReader& reader);
  Outcome caches(WireReader& reader);
  // reply: gets what was written and what it took.
  Outcome resize(WireReader& reader, Reply& reply, std::vector<std::pair<const uint8_t*, size_t>>& outputs);
  Outcome run(WireReader& reader, Reply& reply, std::vector<std::pair<const uint8_t*, size_t>>& outputs);

  const KernelTable& kernels_;
  bool (*const interrupted_)();
  std::unique_ptr<ThreadPool> pool_;
  FastMemory fast_;
  std::unique_ptr<Resizer> resizer_;
  Arena ddr_, kv_, resized_;
  std::vector<KvCache> caches_;  // a layer
  StateShape cache_shape_;
  std::map<int32_t, HostBuffer> mapped_;  // by the file's number
  std::map<uint32_t, Weight> weights_;
  std::map<uint32_t, std::unique_ptr<Loaded>> loaded_;
};

}  // namespace hvl

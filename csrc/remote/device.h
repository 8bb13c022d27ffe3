// A device that runs Executables in a process of its own (hexagon/dsp): what Executor is for this process.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "csrc/remote/process.h"
#include "csrc/remote/wire.h"
#include "csrc/runtime/executor.h"

namespace hvl {

struct RemoteOptions {
  std::vector<std::string> command;  // empty: there is no such device
  double timeout_s = 600;            // for one run
};

// What the runs of a program took.
struct RemoteCounts {
  uint64_t runs = 0, packets = 0;
  const Program* program = nullptr;  // one of those that have its name
  std::vector<OpCounts> ops;         // parallel to its ops
};

class RemoteDevice {
 public:
  RemoteDevice(const RemoteOptions& options, int32_t threads, int64_t budget);

  // As Executor::run. The executable and what its weights point to must stay where they are as long as the device lives: both are sent
  // at the first run, and weights that programs share once. The device has one set of KV caches, which args.states is only the shape of.
  // Error kRuntime when the device fails; after that every run is one.
  bool run(const Executable& executable, const RunArgs& args, const CancelCheck& cancel, bool eager, TransferStats& transfers);

  const std::map<std::string, RemoteCounts>& counts() const { return counts_; }  // by name of the program, since the last reset
  int64_t fast_peak() const { return fast_peak_; }  // the highest byte of the device's fast memory that any run has written
  void reset_counts() { counts_.clear(); }

 private:
  struct Answer {
    Status status;
    Reply reply;
    std::vector<uint8_t> outputs;
  };
  Answer ask(WireWriter&& message, const std::function<void()>& tick = nullptr);
  Answer ask_well(WireWriter&& message, const char* what);  // any status but kOk is an error
  uint32_t load(const Executable& executable);
  void make_caches(const Executable& executable);

  const RemoteOptions options_;
  Process process_;
  std::map<const Executable*, uint32_t> loaded_;
  std::map<const void*, uint32_t> weights_;
  bool caches_ = false;
  int64_t fast_peak_ = 0;
  std::map<std::string, RemoteCounts> counts_;
};

}  // namespace hvl

// A device that runs Executables elsewhere (hexagon/dsp): what Executor is for this process.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csrc/remote/channel.h"
#include "csrc/remote/wire.h"
#include "csrc/runtime/executor.h"

namespace hvl {

struct RemoteOptions {
  std::vector<std::string> command;            // of an emulated device, which is a process
  std::string library;                         // or of FastRPC; neither: there is no such device
  int32_t arch = 0;                            // FastRPC: of the DSP, 75 for v75; 0: it is asked
  double timeout_s = 600;                      // for one run
  int64_t window_bytes = int64_t(3500) << 20;  // that one program on the device can address

  bool any() const { return !command.empty() || !library.empty(); }
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
  // Error kDevice when the device fails; after that every run that needs the part of it that failed is one.
  bool run(const Executable& executable, const RunArgs& args, const CancelCheck& cancel, bool eager, TransferStats& transfers);

  // rgb (in_height, in_width, 3) -> out (height, width, 3). kNoRoom, and nothing done: the image is too large for a message, or for the device.
  Resized resize(const uint8_t* rgb, const Resizing& how, uint8_t* out, const CancelCheck& cancel);

  const std::map<std::string, RemoteCounts>& counts() const { return counts_; }  // by name of the program, since the last reset
  int64_t fast_peak() const { return fast_peak_; }  // the highest byte of the device's fast memory that any run has written
  void reset_counts() { counts_.clear(); }
  size_t parts() const { return parts_.size(); }
  bool failed() const;  // in part at least

 private:
  struct Answer {
    Status status;
    Reply reply;
    std::vector<uint8_t> outputs;
  };
  // A program on the device with memory of its own, as much as 32 bits can address. Programs with KV caches are all in one of them.
  struct Part {
    std::unique_ptr<Channel> channel;
    std::map<const Executable*, uint32_t> loaded;
    std::map<const void*, uint32_t> weights;
    int64_t bytes = 0;  // of weights, caches and what programs keep in DDR
    int64_t ddr_bytes = 0;
    bool caches = false;
  };

  Answer ask(Part& part, WireWriter&& message, const std::function<void()>& tick = nullptr);
  // The device is told to stop once `cancel` says so; then the status is kCancelled, also where it had finished.
  Answer ask_until(Part& part, WireWriter&& message, const CancelCheck& cancel);
  Answer ask_well(Part& part, WireWriter&& message, const char* what);  // any status but kOk is an error
  Part& open_part();
  int64_t bytes_for(const Part& part, const Executable& executable) const;  // more than it has
  Part& part_for(const Executable& executable);
  uint32_t load(Part& part, const Executable& executable);
  void put(Part& part, const Executable& executable);
  void make_caches(Part& part, const Executable& executable);

  const RemoteOptions options_;
  const int32_t threads_;
  const int64_t budget_;
  std::vector<std::unique_ptr<Part>> parts_;
  int64_t fast_peak_ = 0;
  std::map<std::string, RemoteCounts> counts_;
};

}  // namespace hvl

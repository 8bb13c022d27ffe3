// A channel to the program on a Hexagon DSP, through the vendor's libcdsprpc (FastRPC), which is loaded when it is asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/remote/channel.h"

namespace hvl {

struct FastRpcLibrary;

// One process on the DSP ("unsigned PD") and one handle of our library in it. Every channel of this process has a DSP process of its own.
class FastRpc : public Channel {
 public:
  // library: what dlopen is given, "libcdsprpc.so". arch: 73, 75, 79 or 81, of the DSP; 0: it is asked. An error says what is missing and what to
  // do. timeout_s: for the DSP to load our library.
  FastRpc(const std::string& library, int32_t arch, double timeout_s);
  ~FastRpc() override;
  FastRpc(const FastRpc&) = delete;
  FastRpc& operator=(const FastRpc&) = delete;

  const char* name() const override { return "the DSP"; }
  bool ended() const override { return !ended_.empty(); }
  std::vector<uint8_t> exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick) override;
  void cancel() override;
  [[noreturn]] void end(const std::string& why) override;
  SharedBuffer allocate(size_t bytes) override;
  void share(const SharedBuffer& buffer) override;

 private:
  void open(const std::string& module, double timeout_s);
  // Calls the transport in a thread, whose result this returns; past the time, the DSP process is killed and it is an error. Calls may have
  // to be given up with their thread, so what `work` uses must be its own.
  int bounded(std::function<int()> work, double timeout_s, const std::function<void()>& tick);
  void check_usable() const;
  void kill(const std::string& why);
  void close();
  void give_back_session();

  const int owner_;  // the process that may use it
  const std::shared_ptr<const FastRpcLibrary> library_;
  int domain_ = 0;
  uint32_t session_ = 0;
  std::shared_ptr<uint64_t> handle_;  // 0: none
  const std::shared_ptr<std::atomic<int>> cancels_ = std::make_shared<std::atomic<int>>(0);  // on their way
  std::vector<SharedBuffer> buffers_, shared_;
  size_t reply_room_ = 64 << 10;
  std::string ended_;  // why
};

}  // namespace hvl

// A channel to a process that answers messages on its standard input and output.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "csrc/remote/channel.h"

namespace hvl {

class Process : public Channel {
 public:
  // Starts command[0]. Error kNotFound when it cannot be started.
  explicit Process(const std::vector<std::string>& command);
  ~Process() override;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const char* name() const override { return "the emulated device"; }
  bool ended() const override { return !ended_.empty(); }
  // An error says the exit code and what the process wrote to standard error. Of the seconds only those count in which this process itself ran.
  std::vector<uint8_t> exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick) override;
  void cancel() override;
  [[noreturn]] void end(const std::string& why) override;

 private:
  void send(const std::vector<uint8_t>& message);
  void stop();
  std::string last_words() const;
  bool flush();  // whether everything is sent

  const pid_t owner_;
  pid_t child_ = -1;
  int socket_ = -1, stderr_ = -1;
  std::vector<uint8_t> unsent_;
  size_t sent_ = 0;
  std::string ended_;  // why
};

}  // namespace hvl

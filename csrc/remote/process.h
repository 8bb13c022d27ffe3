// A process that answers messages (csrc/remote/wire.h) on its standard input and output.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hvl {

class Process {
 public:
  // Starts command[0]. Error kNotFound when it cannot be started.
  explicit Process(const std::vector<std::string>& command);
  ~Process();  // ends it at once
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Sends a message with its length, and returns the reply without. `tick` is called about 50 times a second meanwhile, and may send.
  // Error kRuntime when the process has ended (with its exit code and what it wrote to standard error), or there is no reply within
  // `timeout_s` seconds in which this process itself ran: then it is ended, and every later call is the same error.
  std::vector<uint8_t> exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick);
  void send(const std::vector<uint8_t>& message);
  // Ends it; this and every later call is Error kRuntime: "the emulated device `why`".
  [[noreturn]] void end(const std::string& why);

 private:
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

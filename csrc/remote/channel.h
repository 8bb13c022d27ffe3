// How messages (csrc/remote/wire.h) reach the program on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hvl {

// Memory that host and device both see, as long as the channel lives.
struct SharedBuffer {
  uint8_t* data = nullptr;
  size_t bytes = 0;
  int32_t fd = -1;  // what the device knows it by
};

// Belongs to one caller at a time. Every error is Error(kDevice), but where another kind is named; whatever has failed once is the same error
// from then on, and leaves nothing running.
class Channel {
 public:
  virtual ~Channel() = default;  // ends the program at once
  virtual const char* name() const = 0;  // "the emulated device", for errors
  virtual bool ended() const = 0;        // by an error

  // Sends a message with its length, and returns the reply without. `tick` is called about 50 times a second meanwhile, and may cancel().
  // Error when the program has ended, or there is no reply within `timeout_s` seconds: then it is ended.
  virtual std::vector<uint8_t> exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick) = 0;
  // Asks the program to stop what is in progress.
  virtual void cancel() = 0;
  // Ends it; this and every later call is an error: name() `why`.
  [[noreturn]] virtual void end(const std::string& why) = 0;

  // Room for weights that the device reads where they are: written here, then shared. Null data: it reads messages only.
  virtual SharedBuffer allocate(size_t) { return {}; }
  virtual void share(const SharedBuffer&) {}
};

}  // namespace hvl

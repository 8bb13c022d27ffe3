// The program on the DSP, emulated: answers messages (csrc/remote/wire.h) from standard input until it ends. Exit code: 0; 1 where input ends
// within a message, output cannot be written, or a reply with Status::kFatal says why.
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <new>

#include "csrc/base/error.h"
#include "hexagon/dsp/kernels.h"
#include "hexagon/dsp/service.h"

namespace hvl {
namespace {

bool read_all(uint8_t* to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = read(0, to + done, bytes - done);
    if (got <= 0) {
      if (done == 0) return false;
      _exit(1);
    }
    done += size_t(got);
  }
  return true;
}

void write_all(const std::vector<uint8_t>& message) {
  for (size_t done = 0; done < message.size();) {
    const ssize_t put = write(1, message.data() + done, message.size() - done);
    if (put <= 0) _exit(1);
    done += size_t(put);
  }
}

void reply(Status status, const std::string& text) {
  WireWriter writer{uint32_t(status)};
  Reply said;
  said.text = text;
  fields(writer, said);
  write_all(writer.finish());
}

// Whether there is a message (that can only be kCancel), or nobody any more to send one.
bool interrupted() {
  pollfd input{0, POLLIN, 0};
  return poll(&input, 1, 0) > 0;
}

void serve() {
  Service service(dsp_kernels(), &interrupted);
  std::vector<uint8_t> message;
  for (uint32_t bytes; read_all(reinterpret_cast<uint8_t*>(&bytes), sizeof bytes);) {
    if (bytes > kMostMessage) {  // what follows cannot be told from a message
      reply(Status::kFatal, "a message of more than 256 MiB");
      _exit(1);
    }
    message.resize(bytes);
    if (bytes > 0 && !read_all(message.data(), bytes)) _exit(1);
    write_all(service.answer(message.data(), bytes));
  }
}

}  // namespace

void end_program(ErrorKind, const std::string& message) {
  reply(Status::kFatal, message);
  _exit(1);
}

}  // namespace hvl

int main() {
  std::set_new_handler([] { _exit(1); });
  hvl::serve();
  return 0;
}

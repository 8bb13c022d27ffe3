// FastRPC's end on the DSP, emulated: takes calls from standard input and hands them to the library's entry, each in a thread of its own, as a
// device does. tools/hexagon/fake_cdsprpc.cc and tools/hexagon/rpc.py are the other end. Little endian:
//   call:   bytes of what follows, number of the call (uint32 each); handle (uint64); scalars (uint32); bytes of every buffer (uint32 each);
//           the buffers in; the handles in (uint64 each)
//   result: bytes of what follows, number of the call, result (uint32 each); the buffers out, whole; the handles out (uint64 each)
// Ends with its input; exit code 1 where a call is no such call.
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "csrc/remote/wire.h"
#include "hexagon/device/skel.h"
#include "hexagon/device/threads.h"

namespace hvl {
namespace {

using rpc::Arg;

bool read_all(void* to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = read(0, static_cast<uint8_t*>(to) + done, bytes - done);
    if (got <= 0) return false;
    done += size_t(got);
  }
  return true;
}

void write_all(const std::vector<uint8_t>& bytes) {
  static Mutex one_at_a_time;
  const Lock lock(one_at_a_time);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t put = write(1, bytes.data() + done, bytes.size() - done);
    if (put <= 0) _exit(1);
    done += size_t(put);
  }
}

// What is left of a call.
class Cursor {
 public:
  explicit Cursor(const std::vector<uint8_t>& bytes) : at_(bytes.data()), left_(bytes.size()) {}
  const uint8_t* take(size_t bytes) {
    if (bytes > left_) _exit(1);
    const uint8_t* from = at_;
    at_ += bytes;
    left_ -= bytes;
    return from;
  }
  template <typename T>
  T value() {
    T value;
    memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

 private:
  const uint8_t* at_;
  size_t left_;
};

template <typename T>
void append(std::vector<uint8_t>& to, const T& value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  to.insert(to.end(), from, from + sizeof value);
}

void serve(const std::vector<uint8_t>& call) {
  Cursor cursor(call);
  const auto number = cursor.value<uint32_t>();
  const auto handle = cursor.value<uint64_t>();
  const auto scalars = cursor.value<uint32_t>();
  const auto s = rpc::Scalars::decoded(scalars);
  const uint32_t buffers = s.in_buffers + s.out_buffers;
  std::vector<uint32_t> bytes(buffers);
  for (uint32_t& each : bytes) each = cursor.value<uint32_t>();
  std::vector<std::unique_ptr<uint8_t[]>> memory(buffers);
  std::vector<Arg> args(buffers + s.in_handles + s.out_handles + 1);
  for (uint32_t b = 0; b < buffers; ++b) {
    if (bytes[b] > kMostMessage) _exit(1);
    memory[b] = std::make_unique<uint8_t[]>(bytes[b]);
    if (b < s.in_buffers && bytes[b] > 0) memcpy(memory[b].get(), cursor.take(bytes[b]), bytes[b]);
    args[b].buffer = {memory[b].get(), bytes[b]};
  }
  for (uint32_t h = 0; h < s.in_handles; ++h) args[buffers + h].handle = cursor.value<uint64_t>();

  const int32_t result = hypervl_skel_handle_invoke(handle, scalars, args.data());

  std::vector<uint8_t> out(4);
  append(out, number);
  append(out, result);
  for (uint32_t b = s.in_buffers; b < buffers; ++b) out.insert(out.end(), memory[b].get(), memory[b].get() + bytes[b]);
  for (uint32_t h = 0; h < s.out_handles; ++h) append(out, args[buffers + s.in_handles + h].handle);
  const auto length = uint32_t(out.size() - 4);
  memcpy(out.data(), &length, sizeof length);
  write_all(out);
}

}  // namespace
}  // namespace hvl

int main() {
  std::set_new_handler([] { _exit(1); });
  for (uint32_t bytes; hvl::read_all(&bytes, sizeof bytes);) {
    if (bytes > 2 * hvl::kMostMessage) _exit(1);
    std::vector<uint8_t> call(bytes);
    if (!hvl::read_all(call.data(), bytes)) _exit(1);
    std::thread(hvl::serve, std::move(call)).detach();
  }
  _exit(0);
}

// What FastRPC calls on the DSP: libhypervl_hexagon_vNN.so. A session is a handle with a Service of its own; messages are those of
// csrc/remote/wire.h. Compiled, never run: no device was at hand.
//
// The calling convention is public (remote.h of the fastrpc project): a call has a number of its method and how many buffers and handles follow, in this
// order: input buffers, output buffers, input handles, output handles. Method 0 opens (in: the length of a URI, the URI; out: a handle),
// 1 closes (in: the handle); every interface has these. Whatever the numbers are, the answer is a status.
//
//   2 exchange   in: a message without its length; out: its reply with its length, or as much of it as there is room for
//   3 fetch      out: the last reply, where there was not room for all of it
//   4 cancel     of the run in progress, from another thread
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "csrc/base/error.h"
#include "hexagon/dsp/kernels.h"
#include "hexagon/dsp/service.h"

namespace hvl {
namespace {

// AEEStdErr.h
enum RpcError : int { kSuccess = 0, kNoMemory = 2, kBadParameter = 14, kUnsupported = 20 };

struct RemoteBuffer {
  void* data;
  size_t bytes;
};
union RemoteArgument {
  RemoteBuffer buffer;
  uint64_t handle;
};

struct Scalars {
  explicit Scalars(uint32_t s) : method(s >> 24 & 31), inputs(s >> 16 & 255), outputs(s >> 8 & 255), input_handles(s >> 4 & 15), output_handles(s & 15) {}
  bool are(uint32_t in, uint32_t out, uint32_t handles_in, uint32_t handles_out) const {
    return inputs == in && outputs == out && input_handles == handles_in && output_handles == handles_out;
  }
  uint32_t method, inputs, outputs, input_handles, output_handles;
};

std::atomic<bool> cancel_requested{false};  // FastRPC runs one call of a session at a time, but for cancel

struct RpcSession {
  Service service{dsp_kernels(), [] { return cancel_requested.load(std::memory_order_relaxed); }};
  std::vector<uint8_t> reply;
};

int copy_reply(const std::vector<uint8_t>& reply, const RemoteBuffer& to) {
  if (to.bytes < sizeof(uint32_t) || !to.data) return kBadParameter;
  if (!reply.empty()) std::memcpy(to.data, reply.data(), reply.size() < to.bytes ? reply.size() : to.bytes);
  return kSuccess;
}

int exchange(RpcSession& session, const RemoteBuffer& message, const RemoteBuffer& out) {
  if (message.bytes > 0 && !message.data) return kBadParameter;
  cancel_requested = false;
  session.reply = session.service.answer(static_cast<const uint8_t*>(message.data), message.bytes);
  return copy_reply(session.reply, out);
}

}  // namespace

// The user process on the DSP ends; the host sees a session that is gone.
void end_program(ErrorKind, const std::string&) { std::_Exit(1); }

}  // namespace hvl

extern "C" __attribute__((visibility("default"))) int hypervl_hexagon_skel_handle_invoke(uint64_t handle, uint32_t scalars, hvl::RemoteArgument* arguments) {
  using namespace hvl;
  const Scalars s(scalars);
  auto* session = reinterpret_cast<RpcSession*>(uintptr_t(handle));
  if (!arguments) return s.method == 4 && s.are(0, 0, 0, 0) && session ? (cancel_requested = true, kSuccess) : kBadParameter;
  switch (s.method) {
    case 0: {
      if (!s.are(2, 0, 0, 1)) return kBadParameter;
      auto* opened = new (std::nothrow) RpcSession;
      if (!opened) return kNoMemory;
      arguments[2].handle = uintptr_t(opened);
      return kSuccess;
    }
    case 1:
      if (!s.are(0, 0, 1, 0)) return kBadParameter;
      delete reinterpret_cast<RpcSession*>(uintptr_t(arguments[0].handle));
      return kSuccess;
    case 2:
      return session && s.are(1, 1, 0, 0) ? exchange(*session, arguments[0].buffer, arguments[1].buffer) : kBadParameter;
    case 3:
      return session && s.are(0, 1, 0, 0) ? copy_reply(session->reply, arguments[0].buffer) : kBadParameter;
    case 4:
      if (!session || !s.are(0, 0, 0, 0)) return kBadParameter;
      cancel_requested = true;
      return kSuccess;
    default:
      return kUnsupported;
  }
}

// Calls of FastRPC become messages to a Service. Whatever the scalars, lengths and handles are, the answer is a result: nothing here is trusted
// but that `args` has as many elements as the scalars say, and that each buffer has its bytes.
#include "hexagon/device/skel.h"

#include <string.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "csrc/base/error.h"
#include "hexagon/device/threads.h"
#include "hexagon/device/vector_unit.h"
#include "hexagon/dsp/kernels.h"
#include "hexagon/dsp/service.h"

namespace hvl {
namespace {

constexpr int kMostSessions = 4;  // open at once in this process
constexpr size_t kStack = 512 << 10;

using rpc::Arg;
using rpc::Scalars;

// A handle's session. `mutex_` is that of the table below.
class Session {
 public:
  explicit Session(uint64_t handle) : handle_(handle), service_(std::make_unique<Service>(dsp_kernels(), &Session::interrupted)) {}

  uint64_t handle() const { return handle_; }
  void cancel() { cancelled_ = true; }
  bool busy() const { return busy_; }
  void set_busy(bool busy) { busy_ = busy; }
  std::vector<uint8_t>& reply() { return reply_; }

  // In a thread of its own, whose stack we choose, and which end_program can end.
  int32_t exchange(const uint8_t* message, size_t bytes);
  static Session* of_this_thread();
  void end(const std::string& why);

 private:
  static void* work(void* session);
  static bool interrupted() { return of_this_thread()->cancelled_; }

  const uint64_t handle_;
  std::unique_ptr<Service> service_;  // null when it ended
  bool busy_ = false;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> working_{false};
  pthread_t thread_{};
  const uint8_t* message_ = nullptr;
  size_t bytes_ = 0;
  std::vector<uint8_t> reply_;
};

struct Table {
  Mutex mutex;
  uint64_t handles = 0;
  std::unique_ptr<Session> sessions[kMostSessions];

  std::unique_ptr<Session>* find(uint64_t handle) {
    for (auto& session : sessions) {
      if (session && session->handle() == handle) return &session;
    }
    return nullptr;
  }
};

Table& table() {
  static Table* const all = new Table;  // never destroyed: a thread may still be in it when the process ends
  return *all;
}

Session* Session::of_this_thread() {
  const Lock lock(table().mutex);
  for (auto& session : table().sessions) {
    if (session && session->working_ && pthread_equal(session->thread_, pthread_self())) return session.get();
  }
  return nullptr;
}

void* Session::work(void* context) {
  const VectorUnit unit;
  auto& session = *static_cast<Session*>(context);
  session.thread_ = pthread_self();
  session.working_ = true;
  session.reply_ = session.service_->answer(session.message_, session.bytes_);
  session.working_ = false;
  return nullptr;
}

int32_t Session::exchange(const uint8_t* message, size_t bytes) {
  if (!service_) return rpc::kFailed;
  uint32_t length = 0;
  if (bytes >= sizeof length) memcpy(&length, message, sizeof length);
  if (bytes < sizeof length || length != bytes - sizeof length || length > kMostMessage) return rpc::kBadArgument;
  message_ = message + sizeof length;
  bytes_ = length;
  cancelled_ = false;
  reply_.clear();
  pthread_t thread;
  if (!start_thread(thread, kStack, &Session::work, this)) return rpc::kNoMemory;
  pthread_join(thread, nullptr);
  return rpc::kDone;
}

void Session::end(const std::string& why) {
  WireWriter writer{uint32_t(Status::kFatal)};
  Reply said;
  said.text = why;
  fields(writer, std::as_const(said));
  reply_ = writer.finish();
  (void)service_.release();  // its thread is in the midst of it
  working_ = false;
}

int32_t open_session(const Scalars& s, Arg* args) {
  if (!s.is(2, 0, 0, 1) || args[0].buffer.bytes < sizeof(uint32_t)) return rpc::kBadArgument;
  const Lock lock(table().mutex);
  for (auto& session : table().sessions) {
    if (session) continue;
    session = std::make_unique<Session>(++table().handles);
    args[2].handle = session->handle();
    return rpc::kDone;
  }
  return rpc::kNoMemory;
}

int32_t close_session(const Scalars& s, const Arg* args) {
  if (!s.is(0, 0, 1, 0)) return rpc::kBadArgument;
  const Lock lock(table().mutex);
  auto* session = table().find(args[0].handle);
  if (!session) return rpc::kBadArgument;
  if ((*session)->busy()) return rpc::kBusy;
  session->reset();
  return rpc::kDone;
}

// A handle's session, which nobody else uses meanwhile; null, and why.
class Use {
 public:
  explicit Use(uint64_t handle) {
    const Lock lock(table().mutex);
    auto* found = table().find(handle);
    if (!found) {
      result = rpc::kBadArgument;
    } else if ((*found)->busy()) {
      result = rpc::kBusy;
    } else {
      session = found->get();
      session->set_busy(true);
    }
  }
  ~Use() {
    if (!session) return;
    const Lock lock(table().mutex);
    session->set_busy(false);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  Session* session = nullptr;
  int32_t result = rpc::kDone;
};

int32_t exchange(uint64_t handle, const Scalars& s, Arg* args) {
  if (!s.is(1, 2, 0, 0) || args[1].buffer.bytes != sizeof(uint32_t)) return rpc::kBadArgument;
  const Use use(handle);
  if (!use.session) return use.result;
  const int32_t result = use.session->exchange(static_cast<const uint8_t*>(args[0].buffer.data), args[0].buffer.bytes);
  if (result != rpc::kDone) return result;
  const std::vector<uint8_t>& reply = use.session->reply();
  const auto length = uint32_t(reply.size());
  memcpy(args[1].buffer.data, &length, sizeof length);
  if (length <= args[2].buffer.bytes && length > 0) memcpy(args[2].buffer.data, reply.data(), length);
  return rpc::kDone;
}

int32_t fetch(uint64_t handle, const Scalars& s, Arg* args) {
  if (!s.is(0, 1, 0, 0)) return rpc::kBadArgument;
  const Use use(handle);
  if (!use.session) return use.result;
  const std::vector<uint8_t>& reply = use.session->reply();
  if (reply.empty() || reply.size() != args[0].buffer.bytes) return rpc::kBadArgument;
  memcpy(args[0].buffer.data, reply.data(), reply.size());
  return rpc::kDone;
}

int32_t cancel(uint64_t handle, const Scalars& s) {
  if (!s.is(0, 0, 0, 0)) return rpc::kBadArgument;
  const Lock lock(table().mutex);
  auto* session = table().find(handle);
  if (!session) return rpc::kBadArgument;
  (*session)->cancel();
  return rpc::kDone;
}

}  // namespace

// The thread of a session that cannot go on ends; the session answers no more. A thread of its pool just ends: the host loses patience.
void end_program(ErrorKind, const std::string& message) {
  if (Session* session = Session::of_this_thread()) session->end(message);
  pthread_exit(nullptr);
  __builtin_unreachable();
}

}  // namespace hvl

int hypervl_skel_handle_invoke(uint64_t handle, uint32_t scalars, hvl::rpc::Arg* args) {
  using namespace hvl;
  const auto s = rpc::Scalars::decoded(scalars);
  if (!args && s.in_buffers + s.out_buffers + s.in_handles + s.out_handles > 0) return rpc::kBadArgument;
  for (uint32_t b = 0; b < s.in_buffers + s.out_buffers; ++b) {
    if (!args[b].buffer.data && args[b].buffer.bytes > 0) return rpc::kBadArgument;
  }
  switch (s.method) {
    case rpc::kOpen:
      return open_session(s, args);
    case rpc::kClose:
      return close_session(s, args);
    case rpc::kExchange:
      return exchange(handle, s, args);
    case rpc::kFetch:
      return fetch(handle, s, args);
    case rpc::kCancel:
      return cancel(handle, s);
    default:
      return rpc::kUnknownMethod;
  }
}

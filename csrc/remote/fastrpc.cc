#include "csrc/remote/fastrpc.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/remote/fastrpc_abi.h"
#include "csrc/remote/wire.h"

namespace hvl {

struct FastRpcLibrary {
  int (*open)(const char* uri, uint64_t* handle);
  int (*close)(uint64_t handle);
  int (*invoke)(uint64_t handle, uint32_t scalars, rpc::Arg* args);
  int (*session_control)(uint32_t request, void* data, uint32_t bytes);
  int (*handle_control)(uint32_t request, void* data, uint32_t bytes);
  int (*map)(int domain, int fd, void* address, int offset, size_t bytes, int flags);
  int (*unmap)(int domain, int fd, void* address, size_t bytes);
  void* (*allocate)(int heap, uint32_t flags, int bytes);
  void (*release)(void* memory);
  int (*fd_of)(void* memory);
};

namespace {

constexpr std::array<int32_t, 4> kArchitectures{73, 75, 79, 81};
constexpr auto kTick = std::chrono::milliseconds(20);
constexpr double kCancelTick = 1e-3;
constexpr double kKillSeconds = 3;  // for the transport to give up a call after the DSP process was killed
constexpr size_t kPage = 4096;

std::shared_ptr<const FastRpcLibrary> load_library(const std::string& name) {
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: a call that was given up may be in it
  if (!library) {
    fail(ErrorKind::kDevice, "no FastRPC on this machine (", dlerror(), "): device \"hexagon\" needs ", name,
         " of a Snapdragon's system, and LD_LIBRARY_PATH to lead to it (/vendor/lib64 on Android)");
  }
  auto loaded = std::make_shared<FastRpcLibrary>();
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
    if (!function) fail(ErrorKind::kDevice, name, " has no ", symbol, ": a newer one is needed");
  };
  find(loaded->open, "remote_handle64_open");
  find(loaded->close, "remote_handle64_close");
  find(loaded->invoke, "remote_handle64_invoke");
  find(loaded->session_control, "remote_session_control");
  find(loaded->handle_control, "remote_handle_control");
  find(loaded->map, "fastrpc_mmap");
  find(loaded->unmap, "fastrpc_munmap");
  find(loaded->allocate, "rpcmem_alloc");
  find(loaded->release, "rpcmem_free");
  find(loaded->fd_of, "rpcmem_to_fd");
  return loaded;
}

std::string hex(uint32_t value) {
  std::string digits;
  for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[value >> shift & 0xf];
  return "0x" + digits;
}

int32_t architecture(const FastRpcLibrary& library) {
  rpc::DspInfo info{uint32_t(rpc::kDomain), rpc::kArchVersion, 0};
  const int error = library.handle_control(rpc::kGetDspInfo, &info, sizeof info);
  if (error != 0 || (info.value & 0xff) == 0) {
    fail(ErrorKind::kDevice, "the DSP does not say of which architecture it is (", hex(uint32_t(error)), "): set HVL_HEXAGON_ARCH, to 75 for v75");
  }
  return int32_t(info.value >> 4 & 0xf) * 10 + int32_t(info.value & 0xf);  // 0x73 is v73
}

// The first session of a process needs no reservation.
std::atomic<bool> first_session_taken{false};

char cdsp_name[] = "cdsp", session_name[] = "hypervl";

}  // namespace

FastRpc::FastRpc(const std::string& library, int32_t arch, double timeout_s)
    : owner_(getpid()), library_(load_library(library)), handle_(std::make_shared<uint64_t>(0)) {
  if (arch == 0) arch = architecture(*library_);
  if (std::find(kArchitectures.begin(), kArchitectures.end(), arch) == kArchitectures.end()) {
    fail(ErrorKind::kDevice, "the DSP is of architecture v", arch, ", for which there is no libhypervl_hexagon: expected v73, v75, v79 or v81");
  }
  domain_ = rpc::kDomain;
  if (first_session_taken.exchange(true)) {
    rpc::ReserveSession reserve{cdsp_name, uint32_t(strlen(cdsp_name)), session_name, uint32_t(strlen(session_name)), 0, 0};
    const int error = library_->session_control(rpc::kReserveSession, &reserve, sizeof reserve);
    if (error != 0) {
      fail(ErrorKind::kDevice, "the DSP gives this process no further session (", hex(uint32_t(error)), "): drop an engine or a session, or end other users of it");
    }
    domain_ = int(reserve.domain);
    session_ = reserve.session;
  }
  try {
    open(joined("libhypervl_hexagon_v", arch, ".so"), timeout_s);
  } catch (...) {
    give_back_session();
    throw;
  }
}

void FastRpc::open(const std::string& module, double timeout_s) {
  rpc::ControlUnsigned control{domain_, 1};
  if (const int error = library_->session_control(rpc::kControlUnsigned, &control, sizeof control); error != 0) {
    fail(ErrorKind::kDevice, "the DSP refuses unsigned libraries (", hex(uint32_t(error)), "): its firmware allows signed ones only");
  }
  std::string uri = "file:///" + module + "?hypervl_skel_handle_invoke&_modver=1.0";
  if (session_ == 0) {
    uri += "&_dom=cdsp";
  } else {
    std::vector<char> room(uri.size() + 64);
    rpc::GetUri get{cdsp_name, uint32_t(strlen(cdsp_name)), session_, uri.data(), uint32_t(uri.size()), room.data(), uint32_t(room.size())};
    const int error = library_->session_control(rpc::kGetUri, &get, sizeof get);
    if (error != 0) fail(ErrorKind::kDevice, "the DSP has no address for session ", session_, " (", hex(uint32_t(error)), ")");
    uri.assign(room.data(), strnlen(room.data(), room.size()));
  }
  const int error = bounded([library = library_, handle = handle_, uri] { return library->open(uri.c_str(), handle.get()); }, timeout_s, nullptr);
  if (error != 0) {
    *handle_ = 0;
    fail(ErrorKind::kDevice, "the DSP refused a session, or did not load ", module, " (", hex(uint32_t(error)), "): put it into a folder that ADSP_LIBRARY_PATH ",
         "(on newer systems DSP_LIBRARY_PATH) names, and see docs/hexagon.md");
  }
}

FastRpc::~FastRpc() {
  if (getpid() == owner_) close();
}

void FastRpc::close() {
  // After the DSP process was killed its mappings are gone, and the transport wants its handle closed all the same.
  if (ended_.empty()) {
    for (const SharedBuffer& b : shared_) library_->unmap(domain_, b.fd, b.data, b.bytes);
  }
  shared_.clear();
  if (*handle_ != 0) {
    try {
      bounded([library = library_, handle = std::exchange(*handle_, 0)] { return library->close(handle); }, kKillSeconds, nullptr);
    } catch (const std::exception&) {
    }
  }
  give_back_session();
  for (const SharedBuffer& b : buffers_) library_->release(b.data);
  buffers_.clear();
}

void FastRpc::give_back_session() {
  if (session_ == 0) {
    first_session_taken = false;
  } else {
    rpc::SessionClose close{domain_};
    library_->session_control(rpc::kSessionClose, &close, sizeof close);
  }
}

void FastRpc::check_usable() const {
  if (!ended_.empty()) fail(ErrorKind::kDevice, ended_);
  if (getpid() != owner_) fail(ErrorKind::kDevice, "the DSP's session belongs to the process that forked this one: load the model again");
}

void FastRpc::kill(const std::string& why) {
  if (!ended_.empty()) return;
  ended_ = "the DSP " + why;
  rpc::KillProcess process{domain_};
  library_->session_control(rpc::kKillProcess, &process, sizeof process);
}

void FastRpc::end(const std::string& why) {
  kill(why);
  fail(ErrorKind::kDevice, ended_);
}

int FastRpc::bounded(std::function<int()> work, double timeout_s, const std::function<void()>& tick) {
  struct Call {
    std::mutex mutex;
    std::condition_variable ended;
    bool done = false;
    int result = 0;
  };
  const auto call = std::make_shared<Call>();
  std::thread thread([call, work = std::move(work)] {
    const int result = work();
    const std::lock_guard lock(call->mutex);
    call->result = result;
    call->done = true;
    call->ended.notify_all();
  });
  const auto wait = [&](double seconds, const std::function<void()>& each) {
    auto last = std::chrono::steady_clock::now();
    std::unique_lock lock(call->mutex);
    while (!call->done && seconds > 0) {
      call->ended.wait_for(lock, kTick);
      const auto now = std::chrono::steady_clock::now();
      seconds -= std::min(std::chrono::duration<double>(now - last), std::chrono::duration<double>(5 * kTick)).count();  // this process may have been stopped
      last = now;
      if (call->done || !each) continue;
      lock.unlock();
      each();
      lock.lock();
    }
    return call->done;
  };
  if (wait(timeout_s, tick)) {
    thread.join();
    return call->result;
  }
  kill(joined("gave no reply in ", timeout_s, " s"));
  if (wait(kKillSeconds, nullptr)) {
    thread.join();
  } else {
    thread.detach();  // the transport does not let it go
  }
  fail(ErrorKind::kDevice, ended_);
}

std::vector<uint8_t> FastRpc::exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick) {
  check_usable();
  struct Buffers {
    std::vector<uint8_t> message, reply;
    uint32_t bytes = 0;
  };
  const auto buffers = std::make_shared<Buffers>();
  buffers->message = message;
  buffers->reply.resize(reply_room_);
  const uint64_t handle = *handle_;
  const auto invoke = [&](std::function<int()> work, const std::function<void()>& each) {
    const int error = bounded(std::move(work), timeout_s, each);
    if (error != 0) end(joined("ended, or lost its session (", hex(uint32_t(error)), ")"));
  };
  invoke(
      [library = library_, buffers, handle] {
        rpc::Arg args[3];
        args[0].buffer = {buffers->message.data(), buffers->message.size()};
        args[1].buffer = {&buffers->bytes, sizeof buffers->bytes};
        args[2].buffer = {buffers->reply.data(), buffers->reply.size()};
        return library->invoke(handle, rpc::Scalars{0, rpc::kExchange, 1, 2, 0, 0}.encoded(), args);
      },
      tick);
  for (double seconds = kKillSeconds; *cancels_ > 0; seconds -= kCancelTick) {  // else the next run would be cancelled
    if (seconds <= 0) end("does not return from a call");
    std::this_thread::sleep_for(std::chrono::duration<double>(kCancelTick));
  }
  const size_t bytes = buffers->bytes;
  if (bytes < 4 || bytes > kMostMessage) end(joined("gave a reply of ", bytes, " bytes"));
  if (bytes > buffers->reply.size()) {
    reply_room_ = bytes;
    buffers->reply.resize(bytes);
    invoke(
        [library = library_, buffers, handle] {
          rpc::Arg args[1];
          args[0].buffer = {buffers->reply.data(), buffers->reply.size()};
          return library->invoke(handle, rpc::Scalars{0, rpc::kFetch, 0, 1, 0, 0}.encoded(), args);
        },
        nullptr);
  }
  return {buffers->reply.begin() + 4, buffers->reply.begin() + std::ptrdiff_t(bytes)};
}

void FastRpc::cancel() {
  // In a thread, for it may not return before the run does; whatever it says, the run's own end tells.
  ++*cancels_;
  std::thread([library = library_, handle = *handle_, cancels = cancels_] {
    library->invoke(handle, rpc::Scalars{0, rpc::kCancel, 0, 0, 0, 0}.encoded(), nullptr);
    --*cancels;
  }).detach();
}

SharedBuffer FastRpc::allocate(size_t bytes) {
  check_usable();
  const size_t whole = (bytes + kPage - 1) / kPage * kPage;
  SharedBuffer buffer;
  if (whole <= size_t(INT32_MAX)) {
    // Uncached: it is written once, and nobody has to keep caches of two processors in step.
    buffer.data = static_cast<uint8_t*>(library_->allocate(rpc::kSystemHeap, rpc::kUncached, int(whole)));
  }
  if (!buffer.data) fail(ErrorKind::kMemory, "no ", bytes, " bytes of memory that the DSP can read");
  buffer.bytes = whole;
  buffer.fd = library_->fd_of(buffer.data);
  buffers_.push_back(buffer);
  return buffer;
}

void FastRpc::share(const SharedBuffer& b) {
  check_usable();
  const int error = library_->map(domain_, b.fd, b.data, 0, b.bytes, rpc::kMapUnderFile);
  if (error != 0) fail(ErrorKind::kDevice, "the DSP's session has no room for ", b.bytes, " bytes of weights (", hex(uint32_t(error)), ")");
  shared_.push_back(b);
}

}  // namespace hvl

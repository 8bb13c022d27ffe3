// A stand-in for the vendor's libcdsprpc.so, for tests: FastRPC's public functions, whose calls go to the emulated DSP program
// (hexagon/emulated/rpc_main.cc). A session is a process; its handles are those of the program. What it refuses, as far as this is known of a
// device, a device refuses too: libraries that are not under ADSP_LIBRARY_PATH, handles before unsigned libraries were allowed, buffers that are
// no rpcmem, or whose size is no multiple of a page.
//
// HVL_FAKE_DSP: what a session's process is started with, words between newlines. HVL_FAKE_ARCH: what the DSP says of its architecture
// (73). HVL_FAKE_SESSIONS: how many there may be at once (4). HVL_FAKE_WINDOW: bytes that may be mapped in one (3.5e9). HVL_FAKE_FAULT: refuse (no
// handle is opened), unsigned (none for us), die:N (the Nth call of a session finds its process dead), hang:N (it does not return, nor later
// ones, before the process is killed), old (the functions rpcmem_alloc and following fail).
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "csrc/remote/fastrpc_abi.h"

extern char** environ;

namespace {

using hvl::rpc::Arg;
using hvl::rpc::Scalars;

constexpr int kRefused = 0x80000415, kGone = 0x8000040d, kBad = 14, kNoRoom = 2;

std::string setting(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

// Whether HVL_FAKE_FAULT is `kind`, and of which call.
bool fault(const std::string& kind, long call = -1) {
  const std::string given = setting("HVL_FAKE_FAULT", "");
  return call < 0 ? given == kind : given == kind + ":" + std::to_string(call);
}

class Session {
 public:
  ~Session() { kill(); }

  bool start() {
    if (process_ > 0) return true;
    std::vector<std::string> words;
    std::istringstream lines(setting("HVL_FAKE_DSP", ""));
    for (std::string word; std::getline(lines, word);) words.push_back(word);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    int ends[2];
    if (words.empty() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int target : {0, 1}) posix_spawn_file_actions_adddup2(&actions, ends[1], target);
    const int error = posix_spawn(&process_, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    socket_ = ends[0];
    if (error != 0) {
      process_ = -1;
      return false;
    }
    reader_ = std::thread([this] { read_results(); });
    return true;
  }

  void kill() {
    {
      const std::lock_guard lock(mutex_);
      killed_ = true;
      changed_.notify_all();
    }
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
      process_ = -1;
    }
    if (reader_.joinable()) {
      shutdown(socket_, SHUT_RDWR);
      reader_.join();
      close(socket_);
    }
  }

  int invoke(uint64_t handle, uint32_t word, Arg* args) {
    const auto s = Scalars::decoded(word);
    const uint32_t buffers = s.in_buffers + s.out_buffers;
    std::vector<uint8_t> call(4);
    const auto add = [&](const void* from, size_t bytes) {
      const auto* bytes_of = static_cast<const uint8_t*>(from);
      call.insert(call.end(), bytes_of, bytes_of + bytes);
    };
    std::unique_lock lock(mutex_);
    const uint32_t number = ++calls_;
    if (fault("hang", number)) hangs_ = true;
    if (fault("die", number) && process_ > 0) ::kill(process_, SIGKILL);
    add(&number, 4);
    add(&handle, 8);
    add(&word, 4);
    for (uint32_t b = 0; b < buffers; ++b) {
      const auto bytes = uint32_t(args[b].buffer.bytes);
      add(&bytes, 4);
    }
    for (uint32_t b = 0; b < s.in_buffers; ++b) add(args[b].buffer.data, args[b].buffer.bytes);
    for (uint32_t h = 0; h < s.in_handles; ++h) add(&args[buffers + h].handle, 8);
    const auto length = uint32_t(call.size() - 4);
    memcpy(call.data(), &length, 4);
    for (size_t sent = 0; sent < call.size();) {
      const ssize_t put = send(socket_, call.data() + sent, call.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) return kGone;
      sent += size_t(put);
    }
    changed_.wait(lock, [&] { return killed_ || (!hangs_ && (ended_ || results_.contains(number))); });
    const auto found = results_.find(number);
    if (found == results_.end()) return kGone;
    const std::vector<uint8_t> result = std::move(found->second);
    results_.erase(found);
    int32_t code;
    memcpy(&code, result.data() + 4, 4);
    size_t at = 8;
    for (uint32_t b = s.in_buffers; b < buffers; ++b) {
      if (args[b].buffer.bytes > 0) memcpy(args[b].buffer.data, result.data() + at, args[b].buffer.bytes);
      at += args[b].buffer.bytes;
    }
    for (uint32_t h = 0; h < s.out_handles; ++h, at += 8) memcpy(&args[buffers + s.in_handles + h].handle, result.data() + at, 8);
    return code;
  }

  bool allowed = false, reserved = false;
  uint64_t mapped = 0;
  int handles = 0;

 private:
  bool read_all(uint8_t* to, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
      const ssize_t got = recv(socket_, to + done, bytes - done, 0);
      if (got <= 0) return false;
      done += size_t(got);
    }
    return true;
  }

  void read_results() {
    for (uint32_t bytes; read_all(reinterpret_cast<uint8_t*>(&bytes), 4);) {
      std::vector<uint8_t> result(bytes);
      if (!read_all(result.data(), bytes)) break;
      uint32_t number;
      memcpy(&number, result.data(), 4);
      const std::lock_guard lock(mutex_);
      results_[number] = std::move(result);
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  pid_t process_ = -1;
  int socket_ = -1;
  std::thread reader_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint32_t, std::vector<uint8_t>> results_;  // by the call's number
  uint32_t calls_ = 0;
  bool ended_ = false, killed_ = false, hangs_ = false;
};

struct Buffer {
  int fd;
  size_t bytes;
};
struct Handle {
  int domain;
  uint64_t there;
};

std::mutex all;  // of what follows; held for no call
std::map<int, std::shared_ptr<Session>> sessions;  // by domain: 3, then 100 and up
std::map<uint64_t, Handle> handles;
std::map<void*, Buffer> buffers;
uint64_t next_handle = 0x1000;

std::shared_ptr<Session> session_of(int domain) {
  if (domain == hvl::rpc::kDomain && !sessions.contains(domain)) sessions[domain] = std::make_shared<Session>();
  const auto found = sessions.find(domain);
  return found == sessions.end() ? nullptr : found->second;
}

// Whether the file of "file:///NAME?..." is in one of the folders of ADSP_LIBRARY_PATH.
bool library_there(const std::string& uri) {
  const std::string name = uri.substr(8, uri.find('?') - 8);
  std::istringstream folders(setting("ADSP_LIBRARY_PATH", ""));
  for (std::string folder; std::getline(folders, folder, ';');) {
    if (access((folder + "/" + name).c_str(), R_OK) == 0) return true;
  }
  return false;
}

}  // namespace

extern "C" {

int remote_handle64_open(const char* uri, uint64_t* handle) {
  const std::string text = uri;
  if (text.rfind("file:///", 0) != 0 || text.find("?hypervl_skel_handle_invoke&_modver=1.0&_dom=cdsp") == std::string::npos) return kBad;
  int domain = hvl::rpc::kDomain;
  if (const size_t at = text.find("&_session="); at != std::string::npos) domain = 100 + atoi(text.c_str() + at + 10);
  std::shared_ptr<Session> session;
  {
    const std::lock_guard lock(all);
    session = session_of(domain);
    if (!session || !session->allowed || fault("refuse") || !library_there(text) || !session->start()) return kRefused;
  }
  auto bytes = uint32_t(text.size() + 1);
  Arg args[3];
  args[0].buffer = {&bytes, 4};
  args[1].buffer = {const_cast<char*>(uri), bytes};
  args[2].handle = 0;
  if (const int error = session->invoke(0, Scalars{0, hvl::rpc::kOpen, 2, 0, 0, 1}.encoded(), args); error != 0) return error;
  const std::lock_guard lock(all);
  *handle = next_handle++;
  handles[*handle] = {domain, args[2].handle};
  ++session->handles;
  return 0;
}

int remote_handle64_invoke(uint64_t handle, uint32_t word, Arg* args) {
  std::shared_ptr<Session> session;
  uint64_t there;
  {
    const std::lock_guard lock(all);
    const auto found = handles.find(handle);
    if (found == handles.end()) return kBad;
    session = session_of(found->second.domain);
    there = found->second.there;
  }
  return session ? session->invoke(there, word, args) : kGone;
}

int remote_handle64_close(uint64_t handle) {
  std::shared_ptr<Session> session;
  uint64_t there;
  {
    const std::lock_guard lock(all);
    const auto found = handles.find(handle);
    if (found == handles.end()) return kBad;
    there = found->second.there;
    const int domain = found->second.domain;
    session = session_of(domain);
    handles.erase(found);
    if (session && --session->handles == 0 && domain == hvl::rpc::kDomain) sessions.erase(domain);
  }
  if (!session) return kGone;
  Arg args[1];
  args[0].handle = there;
  return session->invoke(0, Scalars{0, hvl::rpc::kClose, 0, 0, 1, 0}.encoded(), args);
}

int remote_session_control(uint32_t request, void* data, uint32_t bytes) {
  using namespace hvl::rpc;
  std::unique_lock lock(all);
  if (request == kControlUnsigned && bytes == sizeof(ControlUnsigned)) {
    const auto& control = *static_cast<ControlUnsigned*>(data);
    if (fault("unsigned")) return kRefused;
    const auto session = session_of(control.domain);
    if (!session) return kBad;
    session->allowed = control.enable != 0;
    return 0;
  }
  if (request == kKillProcess && bytes == sizeof(KillProcess)) {
    const auto session = session_of(static_cast<KillProcess*>(data)->domain);
    lock.unlock();
    if (session) session->kill();
    return session ? 0 : kBad;
  }
  if (request == kReserveSession && bytes == sizeof(ReserveSession)) {
    auto& reserve = *static_cast<ReserveSession*>(data);
    const int most = atoi(setting("HVL_FAKE_SESSIONS", "4").c_str());
    for (int s = 1; s < most; ++s) {
      if (sessions.contains(100 + s)) continue;
      sessions[100 + s] = std::make_shared<Session>();
      reserve.domain = uint32_t(100 + s);
      reserve.session = uint32_t(s);
      return 0;
    }
    return kNoRoom;
  }
  if (request == kSessionClose && bytes == sizeof(SessionClose)) {
    const int domain = static_cast<SessionClose*>(data)->domain;
    const auto session = session_of(domain);
    sessions.erase(domain);
    return session ? 0 : kBad;
  }
  if (request == kGetUri && bytes == sizeof(GetUri)) {
    auto& get = *static_cast<GetUri*>(data);
    const std::string uri = std::string(get.module, get.module_length) + "&_dom=cdsp&_session=" + std::to_string(get.session);
    if (uri.size() + 1 > get.uri_length) return kBad;
    memcpy(get.uri, uri.c_str(), uri.size() + 1);
    return 0;
  }
  return kBad;
}

int remote_handle_control(uint32_t request, void* data, uint32_t bytes) {
  using namespace hvl::rpc;
  if (request != kGetDspInfo || bytes != sizeof(DspInfo)) return kBad;
  auto& info = *static_cast<DspInfo*>(data);
  if (info.domain != uint32_t(kDomain) || info.attribute != kArchVersion) return kBad;
  info.value = 0x8c00 | uint32_t(strtoul(setting("HVL_FAKE_ARCH", "73").c_str(), nullptr, 16));
  return 0;
}

void* rpcmem_alloc(int heap, uint32_t, int bytes) {
  const int fd = heap == hvl::rpc::kSystemHeap && bytes > 0 && !fault("old") ? memfd_create("rpcmem", MFD_CLOEXEC) : -1;
  if (fd < 0) return nullptr;
  void* memory = MAP_FAILED;
  if (ftruncate(fd, bytes) == 0) memory = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  const std::lock_guard lock(all);
  buffers[memory] = {fd, size_t(bytes)};
  return memory;
}

void rpcmem_free(void* memory) {
  const std::lock_guard lock(all);
  const auto found = buffers.find(memory);
  if (found == buffers.end()) return;
  munmap(memory, found->second.bytes);
  close(found->second.fd);
  buffers.erase(found);
}

int rpcmem_to_fd(void* memory) {
  const std::lock_guard lock(all);
  const auto found = buffers.find(memory);
  return found == buffers.end() ? -1 : found->second.fd;
}

int fastrpc_mmap(int domain, int fd, void* address, int offset, size_t bytes, int flags) {
  const std::lock_guard lock(all);
  const auto found = buffers.find(address);
  const auto session = session_of(domain);
  if (!session || session->handles == 0 || found == buffers.end() || found->second.fd != fd || found->second.bytes != bytes || offset != 0 ||
      bytes % 4096 != 0 || flags != hvl::rpc::kMapUnderFile) {
    return kBad;
  }
  if (session->mapped + bytes > strtoull(setting("HVL_FAKE_WINDOW", "3500000000").c_str(), nullptr, 10)) return kNoRoom;
  session->mapped += bytes;
  return 0;
}

int fastrpc_munmap(int domain, int fd, void* address, size_t bytes) {
  const std::lock_guard lock(all);
  const auto found = buffers.find(address);
  const auto session = session_of(domain);
  if (!session || found == buffers.end() || found->second.fd != fd || found->second.bytes != bytes) return kBad;
  session->mapped -= bytes;
  return 0;
}

}  // extern "C"

#include "csrc/remote/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/remote/wire.h"

extern char** environ;

namespace hvl {
namespace {

constexpr int kTickMs = 20, kEndTicks = 10;
constexpr size_t kMostWords = 2000;

}  // namespace

Process::Process(const std::vector<std::string>& command) : owner_(getpid()) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail(ErrorKind::kDevice, "no socket for ", command.at(0), ": ", std::strerror(errno));
  socket_ = ends[0];
  stderr_ = memfd_create("stderr", MFD_CLOEXEC);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int target : {0, 1}) posix_spawn_file_actions_adddup2(&actions, ends[1], target);
  if (stderr_ >= 0) posix_spawn_file_actions_adddup2(&actions, stderr_, 2);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const int error = posix_spawn(&child_, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error == 0) return;
  child_ = -1;
  stop();
  fail(ErrorKind::kNotFound, "could not start ", command[0], ": ", std::strerror(error));
}

Process::~Process() { stop(); }

void Process::stop() {
  if (socket_ >= 0) close(socket_);
  if (child_ > 0 && getpid() == owner_) {
    kill(child_, SIGKILL);
    while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (stderr_ >= 0) close(stderr_);
  socket_ = stderr_ = -1;
  child_ = -1;
}

std::string Process::last_words() const {
  char words[kMostWords];
  const off_t size = stderr_ < 0 ? 0 : lseek(stderr_, 0, SEEK_END);
  const ssize_t got = size <= 0 ? 0 : pread(stderr_, words, kMostWords, std::max<off_t>(0, size - off_t(kMostWords)));
  return got <= 0 ? std::string() : ": " + std::string(words, size_t(got));
}

void Process::end(const std::string& why) {
  int status = 0;
  std::string how;
  for (int i = 0; i < kEndTicks && child_ > 0; ++i) {  // its end may be a moment away
    const pid_t waited = waitpid(child_, &status, WNOHANG);
    if (waited == child_) {
      child_ = -1;
      how = WIFSIGNALED(status) ? joined(" (signal ", WTERMSIG(status), ")") : joined(" (exit code ", WEXITSTATUS(status), ")");
    } else {
      poll(nullptr, 0, kTickMs);
    }
  }
  ended_ = joined("the emulated device ", why, how, last_words());
  stop();
  fail(ErrorKind::kDevice, ended_);
}

bool Process::flush() {
  while (sent_ < unsent_.size()) {
    const ssize_t put = ::send(socket_, unsent_.data() + sent_, unsent_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put > 0) {
      sent_ += size_t(put);
    } else if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
      return false;
    } else {
      end("ended");
    }
  }
  unsent_.clear();
  sent_ = 0;
  return true;
}

void Process::send(const std::vector<uint8_t>& message) {
  if (!ended_.empty()) fail(ErrorKind::kDevice, ended_);
  if (getpid() != owner_) fail(ErrorKind::kDevice, "the emulated device belongs to the process that forked this one: load the model again");
  unsent_.insert(unsent_.end(), message.begin(), message.end());
  flush();
}

void Process::cancel() { send(WireWriter(uint32_t(Request::kCancel)).finish()); }

std::vector<uint8_t> Process::exchange(const std::vector<uint8_t>& message, double timeout_s, const std::function<void()>& tick) {
  send(message);
  std::vector<uint8_t> reply;
  size_t expected = 4;
  bool head = true;
  double left = timeout_s;
  auto last = std::chrono::steady_clock::now();
  for (size_t got = 0; got < expected;) {
    pollfd both{socket_, short(POLLIN | (unsent_.empty() ? 0 : POLLOUT)), 0};
    const int ready = poll(&both, 1, kTickMs);
    const auto now = std::chrono::steady_clock::now();
    // While this process was stopped, so was the emulator perhaps: no more than a few ticks a turn.
    left -= std::min(std::chrono::duration<double>(now - last).count(), 5e-3 * kTickMs);
    last = now;
    if (left <= 0) {
      kill(child_, SIGKILL);
      end(joined("gave no reply in ", timeout_s, " s"));
    }
    if (tick) tick();
    if (ready <= 0) continue;
    flush();
    if (!(both.revents & (POLLIN | POLLHUP | POLLERR))) continue;
    reply.resize(expected);
    const ssize_t more = recv(socket_, reply.data() + got, expected - got, MSG_DONTWAIT);
    if (more < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (more <= 0) end("ended");
    got += size_t(more);
    if (!head || got < 4) continue;
    uint32_t length;
    std::memcpy(&length, reply.data(), sizeof length);
    if (length > kMostMessage) {
      kill(child_, SIGKILL);
      end(joined("gave a reply of ", length, " bytes"));
    }
    expected += length;
    head = false;
  }
  reply.erase(reply.begin(), reply.begin() + 4);
  return reply;
}

}  // namespace hvl

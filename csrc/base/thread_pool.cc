#include "csrc/base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "csrc/base/error.h"

namespace hvl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kSpinTime = std::chrono::microseconds(20);  // about what waking a sleeper takes; longer is taken from others
constexpr int kSpinsPerLook = 16;   // at the clock: looking takes longer than a spin
constexpr int kChunksPerThread = 4;  // so that a thread which was held up leaves its share to the others

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One wait for another thread.
class Spin {
 public:
  // Waits a moment. False once kSpinTime has passed.
  bool again() {
    cpu_relax();
    if (++spins_ % kSpinsPerLook != 0) return true;
    const Clock::time_point now = Clock::now();
    if (spins_ == kSpinsPerLook) start_ = now;
    return now - start_ < kSpinTime;
  }

 private:
  uint32_t spins_ = 0;
  Clock::time_point start_;
};

void bind_to_cpu(std::thread& thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu < 0 || cpu >= CPU_SETSIZE) fail(ErrorKind::kRuntime, "a thread cannot be bound to processor ", cpu, ": expected 0 .. ", CPU_SETSIZE - 1);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set) != 0) {
    fail(ErrorKind::kRuntime, "the system does not bind a thread to processor ", cpu, ": load without pin_threads");
  }
}

// Counts forks, so that a pool sees in the child that its workers are gone.
std::atomic<uint32_t> fork_count{0};
void register_fork_handler() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1); });
  (void)registered;
}

}  // namespace

struct ThreadPool::Shared {
  // The chunks of one thread that are not claimed yet. High half: job number; low half: how many. One word, so a claim can only succeed for the
  // job it was read from, and the fields below stay as they are until every claimed chunk is done.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };

  int32_t units = 0;
  int32_t chunks = 0;
  Call call = nullptr;
  const void* body = nullptr;
  const int threads;
  const std::unique_ptr<Share[]> shares;
  alignas(64) std::atomic<int32_t> done{0};
  alignas(64) std::atomic<uint32_t> wake{0};  // this line is touched by those who go to sleep only, and by the caller
  std::atomic<int32_t> sleepers{0};
  std::atomic<bool> stop{false};
  uint32_t fork_count_at_start = 0;
  std::vector<std::thread> workers;

  explicit Shared(int count) : threads(count), shares(new Share[size_t(count)]) {}

  int32_t first_chunk(int thread) const { return int32_t(int64_t{chunks} * thread / threads); }

  // Claims and runs the next chunk of `owner`'s as thread `thread`; false when none is left.
  bool work_once(int thread, int owner) {
    std::atomic<uint64_t>& ticket = shares[size_t(owner)].ticket;
    uint64_t t = ticket.load(std::memory_order_acquire);
    do {
      if ((t & 0xffffffffu) == 0) return false;
    } while (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const int64_t chunk = first_chunk(owner + 1) - int64_t(t & 0xffffffffu);
    const auto begin = int32_t(chunk * units / chunks);
    const auto end = int32_t((chunk + 1) * units / chunks);
    call(body, thread, begin, end);
    done.fetch_add(1, std::memory_order_release);
    return true;
  }

  // A thread's own chunks, which follow each other, then those that others have not come to.
  void work(int thread) {
    for (int i = 0; i < threads; ++i) {
      while (work_once(thread, (thread + i) % threads)) {
      }
    }
  }

  void worker(int thread) {
    const std::atomic<uint64_t>& ticket = shares[size_t(thread)].ticket;
    uint64_t last_job = 0;
    Spin spin;
    for (;;) {
      if (const uint64_t job = ticket.load(std::memory_order_acquire) >> 32; job != last_job) {
        last_job = job;
        work(thread);
        spin = {};
        continue;
      }
      if (spin.again()) continue;
      const uint32_t seen = wake.load();
      sleepers.fetch_add(1);
      if (ticket.load() >> 32 == last_job && !stop.load()) wake.wait(seen);
      sleepers.fetch_sub(1);
      if (stop.load()) return;
      spin = {};
    }
  }
};

ThreadPool::ThreadPool(int threads, std::vector<int> cpus) : threads_(std::max(1, threads)), cpus_(std::move(cpus)) {
  if (!cpus_.empty() && int(cpus_.size()) < threads_) {
    fail(ErrorKind::kValue, "expected a processor for each of ", threads_, " threads, got ", cpus_.size());
  }
  register_fork_handler();
  if (threads_ > 1) start_workers();
}

ThreadPool::~ThreadPool() { stop_workers(); }

void ThreadPool::start_workers() {
  shared_ = new Shared(threads_);
  shared_->fork_count_at_start = fork_count.load();
  shared_->workers.reserve(threads_ - 1);
  struct StopUnlessDone {
    ThreadPool* pool;
    ~StopUnlessDone() {
      if (pool) pool->stop_workers();
    }
  } guard{this};
  for (int i = 1; i < threads_; ++i) {
    shared_->workers.emplace_back([shared = shared_, i] { shared->worker(i); });
    if (!cpus_.empty()) bind_to_cpu(shared_->workers.back(), cpus_[i]);
  }
  guard.pool = nullptr;
}

void ThreadPool::stop_workers() {
  if (!shared_) return;
  if (shared_->fork_count_at_start != fork_count.load()) {
    // A forked child: the threads do not exist here. Their handles cannot be joined or destroyed; they are given up with their state.
    shared_ = nullptr;
    return;
  }
  shared_->stop = true;
  shared_->wake.fetch_add(1);
  shared_->wake.notify_all();
  for (auto& worker : shared_->workers) worker.join();
  delete shared_;
  shared_ = nullptr;
}

void ThreadPool::run(int32_t units, Call call, const void* body) {
  if (shared_ && shared_->fork_count_at_start != fork_count.load(std::memory_order_relaxed)) stop_workers();
  if (!shared_) start_workers();
  Shared& s = *shared_;
  ++jobs_;
  s.units = units;
  s.chunks = std::min(units, threads_ * kChunksPerThread);
  s.call = call;
  s.body = body;
  s.done.store(0, std::memory_order_relaxed);
  const uint64_t job = (s.shares[0].ticket.load(std::memory_order_relaxed) >> 32) + 1;
  for (int t = threads_ - 1; t >= 0; --t) s.shares[size_t(t)].ticket.store(job << 32 | uint32_t(s.first_chunk(t + 1) - s.first_chunk(t)));
  s.wake.fetch_add(1);
  if (s.sleepers.load() > 0) s.wake.notify_all();
  s.work(0);
  for (Spin spin; s.done.load(std::memory_order_acquire) != s.chunks;) {
    // A worker that was descheduled in the middle of its chunk needs the processor more than we do.
    if (!spin.again()) std::this_thread::yield();
  }
}

}  // namespace hvl

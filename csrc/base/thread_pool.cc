#include "csrc/base/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hvl {
namespace {

constexpr int kSpins = 600;         // times `pause`: about 20 microseconds
constexpr int kChunksPerThread = 4;  // so that a thread which was held up leaves its share to the others

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Counts forks, so that a pool sees in the child that its workers are gone.
std::atomic<uint32_t> fork_count{0};
void register_fork_handler() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1); });
  (void)registered;
}

}  // namespace

struct ThreadPool::Shared {
  // High half: job number; low half: chunks not yet claimed. One word, so a claim can only succeed for the job it was read from, and
  // the fields below stay as they are until every claimed chunk is done.
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int32_t> done{0};
  alignas(64) std::atomic<uint32_t> wake{0};
  std::atomic<int32_t> sleepers{0};
  std::atomic<bool> stop{false};
  int32_t units = 0;
  int32_t chunks = 0;
  Call call = nullptr;
  const void* body = nullptr;
  uint32_t fork_count_at_start = 0;

  // Claims and runs one chunk as thread `thread`; false when none is left.
  bool work_once(int thread) {
    uint64_t t = ticket.load(std::memory_order_acquire);
    do {
      if ((t & 0xffffffffu) == 0) return false;
    } while (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const int64_t chunk = chunks - int64_t(t & 0xffffffffu);
    const auto begin = int32_t(chunk * units / chunks);
    const auto end = int32_t((chunk + 1) * units / chunks);
    call(body, thread, begin, end);
    done.fetch_add(1, std::memory_order_release);
    return true;
  }

  void worker(int thread) {
    int idle = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      if (work_once(thread)) {
        idle = 0;
        continue;
      }
      if (++idle < kSpins) {
        cpu_relax();
        continue;
      }
      const uint32_t seen = wake.load();
      sleepers.fetch_add(1);
      if ((ticket.load() & 0xffffffffu) == 0 && !stop.load()) wake.wait(seen);
      sleepers.fetch_sub(1);
      idle = 0;
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)) {
  register_fork_handler();
  if (threads_ > 1) start_workers();
}

ThreadPool::~ThreadPool() { stop_workers(); }

void ThreadPool::start_workers() {
  shared_ = new Shared;
  shared_->fork_count_at_start = fork_count.load();
  workers_.reserve(threads_ - 1);
  for (int i = 1; i < threads_; ++i) workers_.emplace_back([shared = shared_, i] { shared->worker(i); });
}

void ThreadPool::stop_workers() {
  if (!shared_) return;
  if (shared_->fork_count_at_start != fork_count.load()) {
    // A forked child: the threads do not exist here. Their handles cannot be joined or destroyed; they are given up with their state.
    new std::vector<std::thread>(std::move(workers_));
    shared_ = nullptr;
    return;
  }
  shared_->stop = true;
  shared_->wake.fetch_add(1);
  shared_->wake.notify_all();
  for (auto& worker : workers_) worker.join();
  workers_.clear();
  delete shared_;
  shared_ = nullptr;
}

void ThreadPool::run(int32_t units, Call call, const void* body) {
  if (shared_->fork_count_at_start != fork_count.load(std::memory_order_relaxed)) {
    stop_workers();
    start_workers();
  }
  Shared& s = *shared_;
  s.units = units;
  s.chunks = std::min(units, threads_ * kChunksPerThread);
  s.call = call;
  s.body = body;
  s.done.store(0, std::memory_order_relaxed);
  const uint64_t job = (s.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  s.ticket.store(job << 32 | uint32_t(s.chunks));
  s.wake.fetch_add(1);
  if (s.sleepers.load() > 0) s.wake.notify_all();
  while (s.work_once(0)) {
  }
  for (int spins = 0; s.done.load(std::memory_order_acquire) != s.chunks; ++spins) {
    // A worker that was descheduled in the middle of its chunk needs the processor more than we do.
    if (spins < kSpins) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace hvl

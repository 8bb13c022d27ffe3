// The pool on the DSP: threads over pthread's functions alone (csrc/base/thread_pool.cc needs futexes and forks), each with a vector unit of its
// own. They sleep between jobs; a run has hundreds, which is for a device to judge.
#include "csrc/base/thread_pool.h"

#include <algorithm>
#include <new>

#include "csrc/base/error.h"
#include "hexagon/device/threads.h"
#include "hexagon/device/vector_unit.h"

namespace hvl {
namespace {

constexpr size_t kStack = 128 << 10;  // of a kernel: resizing takes 80 KiB
constexpr int kMostThreads = 16;
constexpr int kChunksPerThread = 4;

}  // namespace

struct ThreadPool::Shared {
  Mutex mutex;
  Condition started, ended;
  uint64_t job = 0;
  bool stop = false;
  Call call = nullptr;
  const void* body = nullptr;
  int32_t units = 0, chunks = 0, claimed = 0, done = 0;  // under the mutex
  pthread_t threads[kMostThreads];
  int count = 0;

  struct Start {
    Shared* shared;
    int thread;
  } starts[kMostThreads];

  // Claims and runs chunks until none is left. Called, and returns, with the mutex held.
  void work(int thread) {
    while (claimed < chunks) {
      const int32_t chunk = claimed++;
      mutex.unlock();
      call(body, thread, int32_t(int64_t(chunk) * units / chunks), int32_t(int64_t(chunk + 1) * units / chunks));
      mutex.lock();
      if (++done == chunks) ended.wake_all();
    }
  }

  static void* run(void* context) {
    const VectorUnit unit;
    const Start& start = *static_cast<Start*>(context);
    Shared& s = *start.shared;
    const Lock lock(s.mutex);
    for (uint64_t seen = 0;;) {
      while (!s.stop && s.job == seen) s.started.wait(s.mutex);
      if (s.stop) return nullptr;
      seen = s.job;
      s.work(start.thread);
    }
  }
};

ThreadPool::ThreadPool(int threads, std::vector<int>) : threads_(std::clamp(threads, 1, kMostThreads)) {
  if (threads_ > 1) start_workers();
}

ThreadPool::~ThreadPool() { stop_workers(); }

void ThreadPool::start_workers() {
  shared_ = new Shared;
  for (int i = 1; i < threads_; ++i) {
    shared_->starts[i] = {shared_, i};
    if (start_thread(shared_->threads[shared_->count], kStack, &Shared::run, &shared_->starts[i])) ++shared_->count;  // fewer do the same work
  }
}

void ThreadPool::stop_workers() {
  if (!shared_) return;
  {
    const Lock lock(shared_->mutex);
    shared_->stop = true;
    shared_->started.wake_all();
  }
  for (int i = 0; i < shared_->count; ++i) pthread_join(shared_->threads[i], nullptr);
  delete shared_;
  shared_ = nullptr;
}

void ThreadPool::run(int32_t units, Call call, const void* body) {
  Shared& s = *shared_;
  const Lock lock(s.mutex);
  ++jobs_;
  s.call = call;
  s.body = body;
  s.units = units;
  s.chunks = std::min(units, threads_ * kChunksPerThread);
  s.claimed = s.done = 0;
  ++s.job;
  s.started.wake_all();
  s.work(0);
  while (s.done < s.chunks) s.ended.wait(s.mutex);
}

}  // namespace hvl

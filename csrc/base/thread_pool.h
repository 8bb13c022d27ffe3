// Splits one job at a time over a fixed set of threads, the caller among them.
#pragma once

#include <cstdint>
#include <vector>

namespace hvl {

// Workers spin for about 20 microseconds after a job (the next one usually follows at once) and then sleep. A worker that is not
// scheduled in time is not waited for: whoever is awake takes the chunks, so more threads than processors cost little.
// A pool belongs to one caller at a time. After fork() the child's first job starts new workers.
class ThreadPool {
 public:
  // threads: including the caller; at least 1. cpus: empty, or one for each thread: worker i is bound to cpus[i]; cpus[0] is left to the
  // caller, whose thread is not ours to bind. Error kRuntime when the system refuses.
  explicit ThreadPool(int threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  int64_t jobs() const { return jobs_; }  // handed to several threads so far

  // Calls body(begin, end) for disjoint ranges that cover [0, units); returns when all are done. body must not throw.
  template <typename Body>
  void parallel_for(int32_t units, const Body& body) {
    parallel_for_indexed(units, [&body](int, int32_t begin, int32_t end) { body(begin, end); });
  }

  // The same with body(thread, begin, end): calls that run at the same time have different `thread`, from 0 (the caller) to threads() - 1.
  template <typename Body>
  void parallel_for_indexed(int32_t units, const Body& body) {
    if (units <= 1 || threads_ == 1) {
      if (units > 0) body(0, 0, units);
      return;
    }
    run(units, [](const void* b, int thread, int32_t begin, int32_t end) { (*static_cast<const Body*>(b))(thread, begin, end); }, &body);
  }

 private:
  using Call = void (*)(const void* body, int thread, int32_t begin, int32_t end);
  struct Shared;

  void run(int32_t units, Call call, const void* body);
  void start_workers();
  void stop_workers();

  const int threads_;
  const std::vector<int> cpus_;
  int64_t jobs_ = 0;
  Shared* shared_ = nullptr;
};

}  // namespace hvl

// Splits load-time work (checksums, packing, quantising) over a few short-lived threads. Not for kernels: they have the engine's pool.
#pragma once

#include <sched.h>
#include <stddef.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

namespace hvl {

// CPUs this process may run on.
inline size_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// Calls work(begin, end) for disjoint ranges that cover [0, count). `work` must not throw. Where no thread can be started the
// caller's own does the rest; without exceptions (hexagon/dsp) it does everything.
#if !defined(__cpp_exceptions)
template <typename Work>
void parallel_ranges(size_t count, size_t, const Work& work) {
  if (count > 0) work(size_t(0), count);
}
#else
template <typename Work>
void parallel_ranges(size_t count, size_t smallest, const Work& work) {
  const size_t threads = std::max<size_t>(1, std::min(usable_cpus(), count / std::max<size_t>(1, smallest)));
  std::vector<std::thread> pool;
  pool.reserve(threads);
  size_t begin = 0;
  for (size_t t = 0; t + 1 < threads; ++t) {
    const size_t end = count * (t + 1) / threads;
    try {
      pool.emplace_back([&work, begin, end] { work(begin, end); });
    } catch (const std::system_error&) {
      break;
    }
    begin = end;
  }
  if (begin < count) work(begin, count);
  for (std::thread& thread : pool) thread.join();
}

// Runs independent jobs; when all are done the first error, in their order, is thrown.
inline void parallel_jobs(const std::vector<std::function<void()>>& jobs) {
  std::atomic<size_t> next{0};
  std::vector<std::exception_ptr> errors(jobs.size());
  parallel_ranges(std::min(jobs.size(), usable_cpus()), 1, [&](size_t, size_t) {
    for (size_t i; (i = next.fetch_add(1)) < jobs.size();) {
      try {
        jobs[i]();
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}
#endif

}  // namespace hvl

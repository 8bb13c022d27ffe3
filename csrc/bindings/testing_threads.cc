// The thread pool by itself, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/base/thread_pool.h"

namespace py = pybind11;
using namespace hvl;

namespace {

py::dict run_jobs(int threads, std::int32_t units, int jobs, std::vector<int> cpus) {
  if (threads < 1 || threads > 64 || units < 0 || jobs < 0) throw std::invalid_argument("expected 1 .. 64 threads, units >= 0, jobs >= 0");
  ThreadPool pool(threads, std::move(cpus));
  std::vector<std::atomic<int>> done(units), busy(threads);
  std::atomic<int> clashes{0}, outside{0};
  std::vector<std::set<std::thread::id>> ran_as(threads);  // an element is its thread's alone, if what is tested holds
  {
    py::gil_scoped_release release;
    for (int job = 0; job < jobs; ++job) {
      pool.parallel_for_indexed(units, [&](int thread, std::int32_t begin, std::int32_t end) {
        if (thread < 0 || thread >= threads) {
          ++outside;
          return;
        }
        if (busy[thread].exchange(1) != 0) ++clashes;
        ran_as[thread].insert(std::this_thread::get_id());
        for (std::int32_t i = begin; i < end; ++i) {
          ++done[i];
          std::this_thread::yield();  // time for others to clash with
        }
        busy[thread].store(0);
      });
    }
  }
  std::vector<int> times(done.begin(), done.end());
  std::vector<std::size_t> system_threads;
  for (const auto& ids : ran_as) system_threads.push_back(ids.size());
  py::dict result;
  result["times"] = times;
  result["clashes"] = clashes.load();
  result["outside"] = outside.load();
  result["system_threads"] = system_threads;
  return result;
}

}  // namespace

void bind_threads(py::module_& m) {
  m.def("run_jobs", &run_jobs, py::arg("threads"), py::arg("units"), py::arg("jobs"), py::arg("cpus") = std::vector<int>(),
        "Runs jobs of `units` units on a pool: how often each unit ran, how often two chunks ran under one thread index, how many indices "
        "were out of range, and how many threads of the system ran under each index.");
}

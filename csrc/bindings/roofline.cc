// Roofline: how fast this machine reads memory and multiplies, with no kernel of ours in between. What benchmarks give their share of
// (python/hypervl_engine/roofline.py).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "csrc/base/arena.h"
#include "csrc/base/cpu_info.h"
#include "csrc/base/error.h"
#include "csrc/base/thread_pool.h"
#include "csrc/bindings/bindings.h"

namespace py = pybind11;
using namespace hvl;

namespace {

using Loop = void (*)(int64_t rounds);
constexpr int kChains = 10;  // sums that do not wait for each other: latency times instructions a cycle at least; 13 registers in all

// `kChains` times the instructions a round, on registers alone. `asm` keeps every one of them as it is written, and variables with names of
// their own stay in registers where an array would not. Each function carries its instruction set itself, is static and calls nothing, so
// that no newer instruction gets into code that others run. %0: the sum, %1: a register to work in, %2 and %3: factors.
#define HVL_ONCE(instructions, constraint, sum) \
  asm volatile(instructions : "+" constraint(sum), "=&" constraint(between) : constraint(a), constraint(b));
#define HVL_LOOP(name, isa, bytes, constraint, instructions)                                                                  \
  __attribute__((target(isa))) void name(int64_t rounds) {                                                                    \
    typedef int32_t Vector __attribute__((vector_size(bytes)));                                                               \
    const Vector a = Vector{} + 0x3c3c3c3c, b = a; /* 0.01 as a float or bfloat16, 60 as bytes: neither zero nor subnormal */ \
    Vector s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, between;                           \
    for (int64_t r = 0; r < rounds; ++r) {                                                                                    \
      HVL_ONCE(instructions, constraint, s0) HVL_ONCE(instructions, constraint, s1)                                           \
      HVL_ONCE(instructions, constraint, s2) HVL_ONCE(instructions, constraint, s3)                                           \
      HVL_ONCE(instructions, constraint, s4) HVL_ONCE(instructions, constraint, s5)                                           \
      HVL_ONCE(instructions, constraint, s6) HVL_ONCE(instructions, constraint, s7)                                           \
      HVL_ONCE(instructions, constraint, s8) HVL_ONCE(instructions, constraint, s9)                                           \
    }                                                                                                                         \
  }
#if defined(__x86_64__)
#define HVL_AVX512 "avx512f,avx512vnni,avx512bf16"
HVL_LOOP(fma_zmm, HVL_AVX512, 64, "v", "vfmadd231ps %3, %2, %0")
HVL_LOOP(bf16_zmm, HVL_AVX512, 64, "v", "vdpbf16ps %3, %2, %0")
HVL_LOOP(bytes_zmm, HVL_AVX512, 64, "v", "vpdpbusd %3, %2, %0")
HVL_LOOP(words_zmm, HVL_AVX512, 64, "v", "vpdpwssd %3, %2, %0")
#define HVL_TILES(name, instruction)                                                                                     \
  void name(int64_t rounds) {                                                                                                \
    struct alignas(64) {                                                                                                    \
      uint8_t palette = 1, start_row = 0, reserved[14] = {};                                                                \
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};                                                            \
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};                                                                  \
    } config;                                                                                                               \
    asm volatile("ldtilecfg %0" : : "m"(config));                                                                           \
    asm volatile("tilezero %tmm0\n\ttilezero %tmm1\n\ttilezero %tmm2\n\ttilezero %tmm3\n\ttilezero %tmm4\n\t"           \
                 "tilezero %tmm5\n\ttilezero %tmm6\n\ttilezero %tmm7");                                                     \
    for (int64_t r = 0; r < rounds; ++r) {                                                                                  \
      for (int i = 0; i < kChains / 5; ++i) {                                                                               \
        asm volatile(instruction " %tmm7, %tmm6, %tmm0\n\t" instruction " %tmm7, %tmm6, %tmm1\n\t" instruction           \
                                 " %tmm7, %tmm6, %tmm2\n\t" instruction " %tmm7, %tmm6, %tmm3\n\t" instruction           \
                                 " %tmm7, %tmm6, %tmm4");                                                                   \
      }                                                                                                                     \
    }                                                                                                                       \
    asm volatile("tilerelease");                                                                                            \
  }
HVL_TILES(bytes_tiles, "tdpbusd")
HVL_TILES(bf16_tiles, "tdpbf16ps")
HVL_LOOP(fma_ymm, "avx2,fma", 32, "x", "vfmadd231ps %3, %2, %0")
// The least that a dot product takes: multiply pairs, add them up.
HVL_LOOP(bytes_ymm, "avx2", 32, "x", "vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0")
HVL_LOOP(words_ymm, "avx2", 32, "x", "vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0")
HVL_LOOP(mul_add_xmm, "sse2", 16, "x", "movaps %3, %1\n\tmulps %2, %1\n\taddps %1, %0")
HVL_LOOP(words_xmm, "sse2", 16, "x", "movdqa %3, %1\n\tpmaddwd %2, %1\n\tpaddd %1, %0")
HVL_LOOP(bytes_ymm_vnni, "avx2,avxvnni", 32, "x", "%{vex%} vpdpbusd %3, %2, %0")
HVL_LOOP(words_ymm_vnni, "avx2,avxvnni", 32, "x", "%{vex%} vpdpwssd %3, %2, %0")
#elif defined(__aarch64__)
HVL_LOOP(fma_neon, "+simd", 16, "w", "fmla %0.4s, %2.4s, %3.4s")
HVL_LOOP(words_neon, "+simd", 16, "w", "smlal %0.4s, %2.4h, %3.4h")
HVL_LOOP(bytes_dot, "arch=armv8.2-a+dotprod", 16, "w", "sdot %0.4s, %2.16b, %3.16b")
HVL_LOOP(bytes_i8mm, "arch=armv8.2-a+i8mm", 16, "w", "smmla %0.4s, %2.16b, %3.16b")
#endif

// Clock cycles: additions that wait for each other.
void additions(int64_t rounds) {
  uint64_t x = 1, y = 3;
  for (int64_t r = 0; r < rounds; ++r) {
    for (int i = 0; i < kChains; ++i) {
      x += y;
      asm volatile("" : "+r"(x), "+r"(y));  // one addition stays one instruction
    }
  }
}

struct Kind {
  const char* isa;      // whose kernels it is the limit of; null: of all
  const char* name;     // "f32", "bf16", "int8", "int16": what is multiplied
  const char* feature;  // of the processor; null: none is needed
  const char* instructions;
  double operations;  // multiplications and additions of the instructions
  Loop loop;
};

const Kind kKinds[] = {
    {nullptr, "clock", nullptr, "dependent additions", 1, additions},
#if defined(__x86_64__)
    {"avx512vnni", "f32", "avx512f", "vfmadd231ps zmm", 32, fma_zmm},
    {"avx512vnni", "bf16", "avx512bf16", "vdpbf16ps zmm", 64, bf16_zmm},
    {"avx512vnni", "int8", "avx512vnni", "vpdpbusd zmm", 128, bytes_zmm},
    {"avx512vnni", "int16", "avx512vnni", "vpdpwssd zmm", 64, words_zmm},
    {"amxint8", "f32", "avx512f", "vfmadd231ps zmm", 32, fma_zmm},
    {"amxint8", "bf16", "amx-bf16", "tdpbf16ps", 2 * 16 * 16 * 32, bf16_tiles},
    {"amxint8", "int8", "amx-int8", "tdpbusd", 2 * 16 * 16 * 64, bytes_tiles},
    {"amxint8", "int16", "avx512vnni", "vpdpwssd zmm", 64, words_zmm},
    {"avx2", "f32", "fma", "vfmadd231ps ymm", 16, fma_ymm},
    {"avx2", "int8", "avx2", "vpmaddubsw, vpaddw ymm", 64, bytes_ymm},
    {"avx2", "int16", "avx2", "vpmaddwd, vpaddd ymm", 32, words_ymm},
    {"portable", "f32", nullptr, "mulps, addps xmm", 8, mul_add_xmm},
    {"portable", "int8", nullptr, "pmaddwd, paddd xmm", 16, words_xmm},  // bytes are widened
    {"portable", "int16", nullptr, "pmaddwd, paddd xmm", 16, words_xmm},
    {"avxvnni", "f32", "fma", "vfmadd231ps ymm", 16, fma_ymm},
    {"avxvnni", "int8", "avx-vnni", "vpdpbusd ymm", 64, bytes_ymm_vnni},
    {"avxvnni", "int16", "avx-vnni", "vpdpwssd ymm", 32, words_ymm_vnni},
#elif defined(__aarch64__)
    {"neondot", "f32", nullptr, "fmla 4s", 8, fma_neon},
    {"neondot", "int8", "asimddp", "sdot", 32, bytes_dot},
    {"neondot", "int16", nullptr, "smlal 4s", 8, words_neon},
    {"i8mm", "f32", nullptr, "fmla 4s", 8, fma_neon},
    {"i8mm", "int8", "i8mm", "smmla", 64, bytes_i8mm},
    {"i8mm", "int16", nullptr, "smlal 4s", 8, words_neon},
#endif
};

// One word of every cache line of `kStreams` stretches side by side, with prefetches `kAhead` bytes ahead (0: those of the processor
// alone). All of the lines pass the memory bus; which pattern is the fastest differs between processors.
template <int kStreams, int kAhead, int kLocality>
void read_lines(const uint8_t* from, int64_t bytes) {
  constexpr int64_t kLine = 64, kStep = 4 * kLine;
  const int64_t each = bytes / kStreams / kStep * kStep;
  uint64_t sum[4] = {};
  for (int64_t i = 0; i < each; i += kStep) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* p = from + s * each + i;
      for (int line = 0; line < 4; ++line) {
        if (kAhead > 0) __builtin_prefetch(p + kAhead + line * kLine, 0, kLocality);
        uint64_t word;
        std::memcpy(&word, p + line * kLine, sizeof word);
        sum[line] += word;
      }
    }
  }
  for (uint64_t& s : sum) asm volatile("" : "+r"(s));
}
using Read = void (*)(const uint8_t* from, int64_t bytes);
constexpr Read kReads[] = {read_lines<1, 0, 3>,    read_lines<1, 2048, 3>, read_lines<1, 8192, 3>,
                           read_lines<1, 4096, 0>, read_lines<2, 2048, 3>, read_lines<4, 2048, 3>};

// Far beyond the last cache, so that almost nothing of the last pass is still there; but no more than an eighth of the machine's memory.
size_t read_bytes() {
  constexpr size_t kLeast = size_t{512} << 20;
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE), pages = sysconf(_SC_PHYS_PAGES);
  const size_t wanted = std::max(kLeast, cache > 0 ? size_t(cache) * 16 : 0);
  return pages > 0 ? std::min(wanted, size_t(pages) * size_t(sysconf(_SC_PAGESIZE)) / 8) : wanted;
}

// The memory that is read, one for all that read at the time; the threads that come first touch it.
std::shared_ptr<const Arena> read_memory(ThreadPool& pool) {
  static std::mutex mutex;
  static std::weak_ptr<const Arena> shared;
  const std::lock_guard<std::mutex> lock(mutex);
  if (auto memory = shared.lock()) return memory;
  const auto memory = std::make_shared<const Arena>(read_bytes());
  madvise(memory->data(), memory->bytes(), MADV_HUGEPAGE);  // the limit is the memory's, not the page tables'
  const size_t share = memory->bytes() / pool.threads();
  const auto touch = [&](int32_t begin, int32_t end) { std::memset(memory->data() + begin * share, 1, (end - begin) * share); };
  pool.parallel_for(pool.threads(), touch);
  shared = memory;
  return memory;
}

class Roofline {
 public:
  // isa: whose instructions count; empty: those of the instruction set in use.
  Roofline(int threads, const std::string& isa) : pool_(checked(threads)) {
    const std::string wanted = kIsaNames[int(isa.empty() ? selected_isa() : isa_from_name(isa))];
    const auto& features = cpu_features();
    for (const Kind& kind : kKinds) {
      const bool runs = !kind.feature || std::find(features.begin(), features.end(), kind.feature) != features.end();
      if (runs && (!kind.isa || kind.isa == wanted)) kinds_[kind.name] = &kind;
    }
  }

  // Name -> instructions.
  std::map<std::string, std::string> kinds() const {
    std::map<std::string, std::string> out = {{"read", "loads and prefetches"}};
    for (const auto& [name, kind] : kinds_) out[name] = kind->instructions;
    return out;
  }

  // Operations (bytes, cycles) a second of all threads in one run of about `seconds`; "read" takes at least one pass over its memory.
  double rate(const std::string& name, double seconds) {
    if (!(seconds > 0 && seconds <= 10)) fail(ErrorKind::kValue, "Roofline.rate: seconds is ", seconds, ": expected up to 10, more than 0");
    const auto found = kinds_.find(name);
    if (name != "read" && found == kinds_.end()) {
      std::string expected = "read";
      for (const auto& [known, kind] : kinds_) expected += ", " + known;
      fail(ErrorKind::kValue, "Roofline.rate: kind is '", name, "': this machine has ", expected);
    }
    const std::lock_guard<std::mutex> lock(mutex_);  // the pool and the memory serve one call at a time
    return name == "read" ? read_rate(seconds) : loop_rate(*found->second, seconds);
  }

 private:
  static int checked(int threads) {
    if (threads < 1 || threads > 1024) fail(ErrorKind::kValue, "Roofline: threads is ", threads, ": expected 1 to 1024");
    return threads;
  }

  template <typename Body>
  static double seconds_of(const Body& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::max(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1e-9);
  }

  double run(const Kind& kind, int64_t rounds) {
    const int32_t parts = 4 * pool_.threads();  // as many as the pool hands out, so that a thread held up leaves some to others
    return seconds_of([&] {
      pool_.parallel_for(parts, [&](int32_t begin, int32_t end) { kind.loop(rounds * (end - begin)); });
    });
  }

  double loop_rate(const Kind& kind, double seconds) {
    const double parts = 4.0 * pool_.threads();
    constexpr int64_t kTrial = 20000;
    const double once = run(kind, kTrial);
    const auto rounds = int64_t(std::max(1.0, kTrial * seconds / once));
    return parts * double(rounds) * kChains * kind.operations / run(kind, rounds);
  }

  double pass(Read read) {
    const int32_t parts = 4 * pool_.threads();
    const int64_t each = int64_t(memory_->bytes()) / parts / 4096 * 4096;
    const double seconds = seconds_of([&] {
      pool_.parallel_for(parts, [&](int32_t begin, int32_t end) { read(memory_->data() + begin * each, (end - begin) * each); });
    });
    return double(each) * parts / seconds;
  }

  double read_rate(double seconds) {
    if (!memory_) {
      memory_ = read_memory(pool_);
      double best = 0;
      for (int trial = 0; trial < 3; ++trial) {
        for (Read candidate : kReads) {
          const double bytes_per_second = pass(candidate);
          if (bytes_per_second > best) best = bytes_per_second, read_ = candidate;
        }
      }
    }
    double rate = pass(read_), spent = double(memory_->bytes()) / rate, best = rate;
    while (spent < seconds) {
      rate = pass(read_);
      spent += double(memory_->bytes()) / rate;
      best = std::max(best, rate);
    }
    return best;
  }

  ThreadPool pool_;
  std::mutex mutex_;
  std::map<std::string, const Kind*> kinds_;
  std::shared_ptr<const Arena> memory_;
  Read read_ = nullptr;
};

}  // namespace

void bind_roofline(py::module_& m) {
  py::class_<Roofline>(m, "Roofline")
      .def(py::init<int, const std::string&>(), py::arg("threads"), py::arg("isa") = "")
      .def_property_readonly("kinds", &Roofline::kinds)
      .def("rate", &Roofline::rate, py::arg("kind"), py::arg("seconds") = 0.02, py::call_guard<py::gil_scoped_release>());
}

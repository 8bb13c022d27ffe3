#include "csrc/base/cpu_info.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdlib>

#include "csrc/base/error.h"

namespace hvl {
namespace {

bool has(const char* feature) {
  const auto& all = cpu_features();
  return std::find(all.begin(), all.end(), feature) != all.end();
}

std::string join_names(const std::vector<Isa>& isas) {
  std::string out;
  for (Isa isa : isas) out += (out.empty() ? "" : ", ") + std::string(kIsaNames[static_cast<int>(isa)]);
  return out;
}

#if defined(__x86_64__)
// Whether the system saves and restores tiles for this process: Linux wants to be asked before the first use, once for all threads.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

}  // namespace

const std::vector<std::string>& cpu_features() {
  static const std::vector<std::string> features = [] {
    std::vector<std::string> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
#define HVL_FEATURE(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name);
    HVL_FEATURE("sse4.2")
    HVL_FEATURE("avx")
    HVL_FEATURE("avx2")
    HVL_FEATURE("fma")
    HVL_FEATURE("f16c")
    HVL_FEATURE("avx512f")
    HVL_FEATURE("avx512bw")
    HVL_FEATURE("avx512dq")
    HVL_FEATURE("avx512vl")
    HVL_FEATURE("avx512vnni")
    HVL_FEATURE("avx512bf16")
#undef HVL_FEATURE
    // What gcc 12 has no names for: by CPUID's numbers, leaf 7.
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
      const bool tiles = (d >> 24 & 1) && tiles_granted();
      if (tiles) found.emplace_back("amx-tile");
      if (tiles && (d >> 25 & 1)) found.emplace_back("amx-int8");
      if (tiles && (d >> 22 & 1)) found.emplace_back("amx-bf16");
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)) found.emplace_back("avx-vnni");
#elif defined(__linux__) && defined(__aarch64__)
    // By the bits' numbers of the kernel's interface: a C library may be older than its names.
    const unsigned long capabilities = getauxval(AT_HWCAP), more = getauxval(AT_HWCAP2);
    if (capabilities >> 1 & 1) found.emplace_back("asimd");
    if (capabilities >> 20 & 1) found.emplace_back("asimddp");
    if (more >> 13 & 1) found.emplace_back("i8mm");
#endif
    return found;
  }();
  return features;
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found = {Isa::kReference};
#if !defined(__aarch64__)
    found.push_back(Isa::kPortable);
#endif
#if defined(__x86_64__)
    if (has("avx2") && has("fma") && has("f16c")) {
      found.push_back(Isa::kAvx2);
      if (has("avx-vnni")) found.push_back(Isa::kAvxVnni);
      if (has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl") && has("avx512vnni")) {
        found.push_back(Isa::kAvx512Vnni);
        if (has("amx-int8")) found.push_back(Isa::kAmxInt8);
      }
    }
#elif defined(__aarch64__)
    if (has("asimd") && has("asimddp")) {
      found.push_back(Isa::kNeonDot);
      if (has("i8mm")) found.push_back(Isa::kI8mm);
    }
#endif
    return found;
  }();
  return isas;
}

Isa isa_from_name(const std::string& name) {
  for (Isa isa : available_isas()) {
    if (name == kIsaNames[static_cast<int>(isa)]) return isa;
  }
  fail(ErrorKind::kValue, "instruction set '", name, "' is unknown or this processor lacks it; available here: ",
       join_names(available_isas()));
}

Isa selected_isa() {
  static const Isa selected = [] {
    const char* forced = std::getenv("HVL_FORCE_ISA");
    return forced && *forced ? isa_from_name(forced) : available_isas().back();
  }();
  return selected;
}

}  // namespace hvl

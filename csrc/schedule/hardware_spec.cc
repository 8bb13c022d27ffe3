#include "csrc/schedule/hardware_spec.h"

#include <cmath>
#include <string_view>

#include "csrc/base/error.h"

namespace hvl {
namespace {

constexpr double kMaxBytes = double(int64_t(1) << 40);  // what check_plan takes as a budget
constexpr double kMaxContexts = 1024;

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  for (std::string_view n : names) {
    if (n == name) return true;
  }
  return false;
}

void check_figure(const HardwareSpec& spec, const char* name, double value) {
  const bool may_be_zero = one_of(name, {"reserved_bytes", "cache_bytes", "transfer_latency_s", "launch_s"});
  if (!std::isfinite(value) || value < 0 || (value == 0 && !may_be_zero)) {
    fail(ErrorKind::kValue, "spec ", spec.name, ": ", name, " is ", value, ", expected a finite number ",
         may_be_zero ? "from 0 on" : "above 0");
  }
  if (one_of(name, {"fast_bytes", "reserved_bytes", "vector_bytes", "contexts", "token_tile_a16", "token_tile_a8"}) &&
      value != std::floor(value)) {
    fail(ErrorKind::kValue, "spec ", spec.name, ": ", name, " is ", value, ", expected a whole number");
  }
}

}  // namespace

void check_spec(const HardwareSpec& spec) {
#define HVL_CHECK(name) check_figure(spec, #name, spec.name);
  HVL_SPEC_FIGURES(HVL_CHECK)
#undef HVL_CHECK
  if (spec.fast_bytes > kMaxBytes)
    fail(ErrorKind::kValue, "spec ", spec.name, ": fast_bytes is ", spec.fast_bytes, ", expected at most 2^40");
  if (spec.reserved_bytes >= spec.fast_bytes) {
    fail(ErrorKind::kValue, "spec ", spec.name, ": reserved_bytes is ", spec.reserved_bytes, ", expected less than fast_bytes, ",
         spec.fast_bytes);
  }
  if (spec.contexts > kMaxContexts) {
    fail(ErrorKind::kValue, "spec ", spec.name, ": contexts is ", spec.contexts, ", expected at most ", kMaxContexts);
  }
}

}  // namespace hvl

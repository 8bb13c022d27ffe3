// numpy access to kernels/common: which variants this machine can run, and the functions of math.h.
#include "kernels/common/testing.h"

#include <pybind11/stl.h>

#include <vector>

#include "kernels/common/eval.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

MathFunction function_of(const std::string& name) {
  constexpr const char* kNames[] = {"exp", "sigmoid", "tanh", "erf", "dot_bytes"};
  for (int i = 0; i < 5; ++i) {
    if (name == kNames[i]) return static_cast<MathFunction>(i);
  }
  throw std::invalid_argument("function: expected exp, sigmoid, tanh, erf or dot_bytes, got " + name);
}

FloatArray math(const std::string& variant, const std::string& function, const FloatArray& x) {
  FloatArray out({x.size()});
  const MathArgs args = {x.data(), out.mutable_data(), function_of(function)};
  const auto run = [&](auto* kernel) { kernel(args, 0, static_cast<std::int32_t>(x.size())); };
  const Isa wanted = isa_from_name(variant);
  // A partial set has the base's.
#define HVL_BASE(id, isa, base) \
  if (wanted == Isa::id) return math(#base, function, x);
  HVL_PARTIAL_ISAS(HVL_BASE)
#undef HVL_BASE
#define HVL_MATH(id, isa) \
  if (wanted == Isa::id) run(&math_##isa);
  HVL_FULL_ISAS(HVL_MATH)
#undef HVL_MATH
  return out;
}

// Of a kernel (or of "math", which every full instruction set has): the variants written for it that this machine can run.
std::vector<std::string> available_variants(const std::string& kernel) {
  const auto written = [&](Isa isa) {
#define HVL_MATH(id, name) \
  if (kernel == "math" && isa == Isa::id) return true;
    HVL_FULL_ISAS(HVL_MATH)
#undef HVL_MATH
    if (kernel == "math") return false;
#define HVL_WRITTEN(set, name, Args) \
  if (kernel == #name) return written_for(isa, &KernelTable::name) == isa;
    HVL_KERNELS(HVL_WRITTEN, )
#undef HVL_WRITTEN
    throw std::invalid_argument("kernel: expected math or a name of kernels/registry.h, got " + kernel);
  };
  std::vector<std::string> names;
  for (Isa isa : available_isas()) {
    if (written(isa)) names.emplace_back(kIsaNames[static_cast<int>(isa)]);
  }
  return names;
}

}  // namespace

void bind_common(py::module_& m) {
  m.def("available_variants", &available_variants, py::arg("kernel"), "The variants of a kernel that this machine can run, slowest first.");
  m.def("math", &math, py::arg("variant"), py::arg("function"), py::arg("x"),
        "exp, sigmoid, tanh or erf of every element, or (dot_bytes) the dot of its unsigned and its signed bytes; returns a flat array.");
}

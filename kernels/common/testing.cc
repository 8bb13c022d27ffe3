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
  HVL_PICK(variant, math)(args, 0, static_cast<std::int32_t>(x.size()));
  return out;
}

std::vector<std::string> available_variants() {
  std::vector<std::string> names;
  for (int i = 0; i < kIsaCount; ++i) {
    if (machine_has(static_cast<Isa>(i))) names.emplace_back(kIsaNames[i]);
  }
  return names;
}

}  // namespace

void bind_common(py::module_& m) {
  m.def("available_variants", &available_variants, "The kernel variants this machine can run, slowest first.");
  m.def("math", &math, py::arg("variant"), py::arg("function"), py::arg("x"),
        "exp, sigmoid, tanh or erf of every element, or (dot_bytes) the dot of its unsigned and its signed bytes; returns a flat array.");
}

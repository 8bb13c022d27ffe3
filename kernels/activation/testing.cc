// numpy access to the activation and silu_mul kernels.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

ActivationKind kind_of(const std::string& name) {
  constexpr const char* kNames[] = {"gelu_tanh", "gelu_erf", "silu", "relu", "quick_gelu"};
  for (int i = 0; i < 5; ++i) {
    if (name == kNames[i]) return static_cast<ActivationKind>(i);
  }
  throw std::invalid_argument("kind: expected gelu_tanh, gelu_erf, silu, relu or quick_gelu, got " + name);
}

void activation(const std::string& variant, const std::string& kind, const FloatArray& x, FloatArray& out, const Cut& cut) {
  require(x.ndim() == 2, "x: expected (rows, cols)");
  require_shape(out, "out", {x.shape(0), x.shape(1)});
  const ActivationArgs args = {x.data(), out.mutable_data(), static_cast<std::int32_t>(x.shape(0)), static_cast<std::int32_t>(x.shape(1)),
                               kind_of(kind)};
  const auto [begin, end] = range_of(cut, args.rows);
  HVL_PICK(variant, activation)(args, begin, end);
}

void silu_mul(const std::string& variant, const FloatArray& gate, const FloatArray& up, FloatArray& out, const Cut& cut) {
  require(gate.ndim() == 2, "gate: expected (rows, cols)");
  require_shape(up, "up", {gate.shape(0), gate.shape(1)});
  require_shape(out, "out", {gate.shape(0), gate.shape(1)});
  const SiluMulArgs args = {gate.data(), up.data(), out.mutable_data(), static_cast<std::int32_t>(gate.shape(0)),
                            static_cast<std::int32_t>(gate.shape(1))};
  const auto [begin, end] = range_of(cut, args.rows);
  HVL_PICK(variant, silu_mul)(args, begin, end);
}

}  // namespace

void bind_activation(py::module_& m) {
  m.def("activation", &activation, py::arg("variant"), py::arg("kind"), py::arg("x").noconvert(), py::arg("out").noconvert(),
        py::arg("cut") = py::none(), "The activation named kind of x (rows, cols) into out, which may be x.");
  m.def("silu_mul", &silu_mul, py::arg("variant"), py::arg("gate").noconvert(), py::arg("up").noconvert(), py::arg("out").noconvert(),
        py::arg("cut") = py::none(), "silu(gate) * up, all (rows, cols), into out, which may be either.");
}

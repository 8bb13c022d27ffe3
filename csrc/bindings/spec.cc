// HardwareSpec from plain Python data.
#include <pybind11/stl.h>

#include <string>
#include <type_traits>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/plan.h"

namespace py = pybind11;
using namespace hvl;

HardwareSpec spec_from(const py::dict& values) {
  HardwareSpec spec;
  const auto read = [&](const char* name, const char* expected, auto& to) {
    if (!values.contains(name)) fail(ErrorKind::kValue, name, ": expected ", expected, ", got nothing");
    try {
      to = values[name].cast<std::remove_reference_t<decltype(to)>>();
    } catch (const py::cast_error&) {
      fail(ErrorKind::kValue, name, ": expected ", expected, ", got ", std::string(py::repr(values[name])));
    }
  };
  read("name", "text", spec.name);
  read("staged", "true or false", spec.staged);
#define HVL_READ(name) read(#name, "a number", spec.name);
  HVL_SPEC_FIGURES(HVL_READ)
#undef HVL_READ
  check_spec(spec);
  return spec;
}

void bind_spec(py::module_& m) {
#define HVL_NAME(name) #name,
  const std::vector<std::string> figures = {HVL_SPEC_FIGURES(HVL_NAME)};
#undef HVL_NAME
  m.attr("SPEC_FIGURES") = py::tuple(py::cast(figures));
  m.def("check_spec", [](const py::dict& spec) { spec_from(spec); }, py::arg("spec"));
}

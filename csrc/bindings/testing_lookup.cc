// Prompt lookup by itself, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "csrc/model/lookup.h"

namespace py = pybind11;
using namespace hvl;

void bind_lookup(py::module_& m) {
  py::class_<Lookup>(m, "Lookup")
      .def(py::init())
      .def("restart", &Lookup::restart)
      .def("always", &Lookup::always, py::arg("on"))
      .def(
          "draft",
          [](Lookup& lookup, const std::vector<std::int32_t>& text, std::int32_t most) {
            const auto draft = lookup.draft(text, most);
            return std::vector<std::int32_t>(draft.begin(), draft.end());
          },
          py::arg("text"), py::arg("most"))
      .def("ran", &Lookup::ran, py::arg("accepted"), py::arg("seconds"));
  m.attr("MOST_DRAFT") = kMostDraft;
}

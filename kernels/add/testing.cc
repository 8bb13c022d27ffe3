// numpy access to the add kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void add(const std::string& variant, const FloatArray& a, const FloatArray& b, FloatArray& out, const Cut& cut) {
  require(a.ndim() == 2, "a: expected (rows, cols)");
  require_shape(b, "b", {a.shape(0), a.shape(1)});
  require_shape(out, "out", {a.shape(0), a.shape(1)});
  const AddArgs args = {a.data(), b.data(), out.mutable_data(), static_cast<std::int32_t>(a.shape(0)),
                        static_cast<std::int32_t>(a.shape(1))};
  const auto [begin, end] = range_of(cut, args.rows);
  HVL_PICK(variant, add)(args, begin, end);
}

}  // namespace

void bind_add(py::module_& m) {
  m.def("add", &add, py::arg("variant"), py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("out").noconvert(),
        py::arg("cut") = py::none(), "a + b, all (rows, cols), into out, which may be either.");
}

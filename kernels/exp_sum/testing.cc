// numpy access to the exp_sum kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void exp_sum(const std::string& variant, const FloatArray& x, FloatArray& maximum, FloatArray& sum, const Cut& cut) {
  require(x.ndim() == 1, "x: expected one axis");
  const auto n = static_cast<std::int32_t>(x.shape(0));
  const std::int32_t units = exp_sum_units(n);
  require_shape(maximum, "maximum", {units});
  require_shape(sum, "sum", {units});
  const ExpSumArgs args{x.data(), n, maximum.mutable_data(), sum.mutable_data()};
  const auto [begin, end] = range_of(cut, units);
  HVL_PICK(variant, exp_sum)(args, begin, end);
}

}  // namespace

void bind_exp_sum(py::module_& m) {
  m.def("exp_sum", &exp_sum, py::arg("variant"), py::arg("x").noconvert(), py::arg("maximum").noconvert(), py::arg("sum").noconvert(),
        py::arg("cut") = py::none(), "Of each chunk of 1024 of x (n): its maximum, and the sum of exp(x - maximum).");
}

// numpy access to the norm kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void norm(const std::string& variant, const FloatArray& x, const FloatArray& weight, const std::optional<FloatArray>& bias, float eps,
          FloatArray& out, const Cut& cut) {
  require(x.ndim() == 2, "x: expected (rows, cols)");
  const py::ssize_t cols = x.shape(1);
  require_shape(weight, "weight", {cols});
  if (bias) require_shape(*bias, "bias", {cols});
  require_shape(out, "out", {x.shape(0), cols});
  NormArgs args = {};
  args.x = x.data();
  args.x_stride = cols;
  args.weight = weight.data();
  args.bias = bias ? bias->data() : nullptr;
  args.out = out.mutable_data();
  args.out_stride = cols;
  args.rows = static_cast<std::int32_t>(x.shape(0));
  args.cols = static_cast<std::int32_t>(cols);
  args.eps = eps;
  args.kind = bias ? NormKind::kLayer : NormKind::kRms;
  const auto [begin, end] = range_of(cut, args.rows);
  HVL_PICK(variant, norm)(args, begin, end);
}

}  // namespace

void bind_norm(py::module_& m) {
  m.def("norm", &norm, py::arg("variant"), py::arg("x").noconvert(), py::arg("weight").noconvert(), py::arg("bias").noconvert().none(true),
        py::arg("eps"), py::arg("out").noconvert(), py::arg("cut") = py::none(),
        "RMSNorm (bias None) or LayerNorm of x (rows, cols) into out, which may be x.");
}

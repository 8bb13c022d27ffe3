// numpy access to the rope kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void rope(const std::string& variant, FloatArray& x, const std::optional<FloatArray>& weight, float eps, const FloatArray& cos,
          const FloatArray& sin, std::int32_t position, std::int32_t heads, const Cut& cut) {
  require(x.ndim() == 2 && heads > 0 && x.shape(1) % heads == 0, "x: expected (rows, heads * head_dim)");
  const py::ssize_t head_dim = x.shape(1) / heads;
  require(head_dim % 2 == 0 && head_dim <= 256, "head_dim: expected an even number up to 256");
  require(cos.ndim() == 2 && position >= 0 && position + x.shape(0) <= cos.shape(0), "cos: expected (positions, head_dim / 2)");
  require_shape(cos, "cos", {cos.shape(0), head_dim / 2});
  require_shape(sin, "sin", {cos.shape(0), head_dim / 2});
  if (weight) require_shape(*weight, "weight", {head_dim});
  RopeArgs args = {};
  args.x = x.mutable_data();
  args.x_stride = x.shape(1);
  args.weight = weight ? weight->data() : nullptr;
  args.eps = eps;
  args.cos = cos.data();
  args.sin = sin.data();
  args.position = position;
  args.rows = static_cast<std::int32_t>(x.shape(0));
  args.heads = heads;
  args.head_dim = static_cast<std::int32_t>(head_dim);
  const auto [begin, end] = range_of(cut, args.rows);
  HVL_PICK(variant, rope)(args, begin, end);
}

}  // namespace

void bind_rope(py::module_& m) {
  m.def("rope", &rope, py::arg("variant"), py::arg("x").noconvert(), py::arg("weight").noconvert().none(true), py::arg("eps"),
        py::arg("cos").noconvert(), py::arg("sin").noconvert(), py::arg("position"), py::arg("heads"), py::arg("cut") = py::none(),
        "Rotates x (rows, heads * head_dim) in place, after RMSNorm by head when weight is given.");
}

// numpy access to the pixel_shuffle kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void pixel_shuffle(const std::string& variant, const FloatArray& x, std::int32_t grid_h, std::int32_t grid_w, std::int32_t factor,
                   FloatArray& out, const Cut& cut) {
  require(factor > 0 && grid_h % factor == 0 && grid_w % factor == 0, "grid: expected multiples of factor");
  require(x.ndim() == 2 && x.shape(0) == grid_h * grid_w, "x: expected (grid_h * grid_w, cols)");
  const std::int32_t tokens = grid_h / factor * (grid_w / factor);
  require_shape(out, "out", {tokens, x.shape(1) * factor * factor});
  const PixelShuffleArgs args = {x.data(), out.mutable_data(), grid_h, grid_w, static_cast<std::int32_t>(x.shape(1)), factor};
  const auto [begin, end] = range_of(cut, tokens);
  HVL_PICK(variant, pixel_shuffle)(args, begin, end);
}

}  // namespace

void bind_pixel_shuffle(py::module_& m) {
  m.def("pixel_shuffle", &pixel_shuffle, py::arg("variant"), py::arg("x").noconvert(), py::arg("grid_h"), py::arg("grid_w"),
        py::arg("factor"), py::arg("out").noconvert(), py::arg("cut") = py::none(),
        "Space to depth of x (grid_h * grid_w, cols) into out (tokens / factor^2, cols * factor^2).");
}

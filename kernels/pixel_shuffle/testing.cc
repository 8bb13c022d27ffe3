// numpy access to the pixel_shuffle kernel.
#include <pybind11/stl.h>

#include "kernels/common/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void pixel_shuffle(const std::string& variant, const FloatArray& x, std::int32_t grid_h, std::int32_t grid_w, std::int32_t factor,
                   FloatArray& out, const Cut& cut, std::int32_t x_first, std::int32_t out_first) {
  require(factor > 0 && grid_h % factor == 0 && grid_w % factor == 0, "grid: expected multiples of factor");
  const std::int32_t out_w = grid_w / factor, line = factor * grid_w;  // tokens of the input for a line of the output
  const auto [begin, end] = range_of(cut, grid_h / factor * out_w);
  require(x.ndim() == 2 && x_first >= 0 && x_first <= begin / out_w * line && x_first + x.shape(0) >= (end + out_w - 1) / out_w * line,
          "x: expected (tokens, cols) from token x_first on, all that are read");
  const std::int64_t cols = x.shape(1), out_cols = cols * factor * factor;
  require_shape(out, "out", {out.shape(0), out_cols});
  require(out_first >= 0 && out_first <= begin && out_first + out.shape(0) >= end, "out: expected the tokens that are written");
  const PixelShuffleArgs args = {virtual_base(x.data(), x_first * cols), virtual_base(out.mutable_data(), out_first * out_cols),
                                 grid_h, grid_w, static_cast<std::int32_t>(cols), factor};
  HVL_PICK(variant, pixel_shuffle)(args, begin, end);
}

}  // namespace

void bind_pixel_shuffle(py::module_& m) {
  m.def("pixel_shuffle", &pixel_shuffle, py::arg("variant"), py::arg("x").noconvert(), py::arg("grid_h"), py::arg("grid_w"),
        py::arg("factor"), py::arg("out").noconvert(), py::arg("cut") = py::none(), py::arg("x_first") = 0,
        py::arg("out_first") = 0,
        "Space to depth of x (grid_h * grid_w, cols) into out (tokens / factor^2, cols * factor^2); of both only the tokens from the first "
        "ones given need to be there.");
}

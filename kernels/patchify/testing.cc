#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>

#include "csrc/base/cpu_info.h"
#include "kernels/registry.h"

namespace py = pybind11;

namespace hvl {
namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;
using Values = py::array_t<int16_t, py::array::c_style>;

// Rows of patches [begin, end); the rest of the result stays 0.
Values patchify(const std::string& variant, const Pixels& image, const Values& table, int top, int left, int grid_h, int grid_w, int patch,
                int begin, int end) {
  if (image.ndim() != 3 || image.shape(2) != 3) throw py::value_error("expected image (h, w, 3)");
  if (table.ndim() != 2 || table.shape(0) != 3 || table.shape(1) != 257) throw py::value_error("expected table (3, 257)");
  if (top < 0 || left < 0 || grid_h < 1 || grid_w < 1 || patch < 1) throw py::value_error("expected a tile with a size");
  if (end < 0) end = grid_h;
  if (begin < 0 || begin > end || end > grid_h) throw py::value_error("expected 0 <= begin <= end <= grid_h");
  Values out({py::ssize_t(grid_h) * grid_w, py::ssize_t(3) * patch * patch});
  std::fill_n(out.mutable_data(), out.size(), int16_t(0));
  const PatchifyArgs args{image.data(), int32_t(image.shape(0)), int32_t(image.shape(1)), top, left, grid_h, grid_w, patch,
                          table.data(), out.mutable_data()};
  kernel_table(isa_from_name(variant)).patchify(args, begin, end);
  return out;
}

}  // namespace
}  // namespace hvl

void bind_patchify(py::module_& m) {
  m.def("patchify", &hvl::patchify, py::arg("variant"), py::arg("image"), py::arg("table"), py::arg("top"), py::arg("left"),
        py::arg("grid_h"), py::arg("grid_w"), py::arg("patch"), py::arg("begin") = 0, py::arg("end") = -1);
}

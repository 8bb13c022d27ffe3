#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "csrc/base/cpu_info.h"
#include "kernels/registry.h"
#include "kernels/resize/resize_taps.h"

namespace py = pybind11;

namespace hvl {
namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;
using Taps = py::array_t<int32_t, py::array::c_style>;

ResizeFilter filter_from_name(const std::string& name) {
  if (name == "bicubic") return ResizeFilter::kBicubic;
  if (name == "bilinear") return ResizeFilter::kBilinear;
  throw py::value_error("expected filter \"bicubic\" or \"bilinear\", got " + name);
}

// One pass over image (height, width, 3): outputs [begin, end) of the pass's rows, the rest of the result stays 0.
Pixels resize_pass(const std::string& variant, bool vertical, const Pixels& image, const Taps& first, const Taps& weights, int begin, int end) {
  if (image.ndim() != 3 || image.shape(2) != 3 || first.ndim() != 1 || weights.ndim() != 2 || weights.shape(0) != first.shape(0)) {
    throw py::value_error("expected image (h, w, 3), first (n), weights (n, taps)");
  }
  const int32_t axis = int32_t(image.shape(vertical ? 0 : 1));
  const int32_t out_size = int32_t(first.shape(0)), taps = int32_t(weights.shape(1));
  for (int32_t i = 0; i < out_size; ++i) {
    if (first.at(i) < 0 || first.at(i) + taps > axis) throw py::value_error("a tap reaches past the image");
  }
  const py::ssize_t rows = vertical ? out_size : image.shape(0);
  Pixels out({rows, vertical ? image.shape(1) : py::ssize_t(out_size), py::ssize_t(3)});
  std::fill_n(out.mutable_data(), out.size(), uint8_t(0));
  if (end < 0) end = int(rows);
  if (begin < 0 || begin > end || end > rows) throw py::value_error("expected 0 <= begin <= end <= rows");
  const std::vector<int32_t> digits = resize_digits(out_size, taps, weights.data());
  const ResizeArgs args{image.data(), out.mutable_data(), int32_t(image.shape(0)), int32_t(image.shape(1)), out_size,
                        first.data(), weights.data(), taps, digits.data()};
  const KernelTable& kernels = kernel_table(isa_from_name(variant));
  (vertical ? kernels.resize_vertical : kernels.resize_horizontal)(args, begin, end);
  return out;
}

}  // namespace
}  // namespace hvl

void bind_resize(py::module_& m) {
  m.def(
      "resize_taps",
      [](int32_t in_size, int32_t out_size, const std::string& filter) {
        const hvl::ResizeTaps taps = hvl::resize_taps(in_size, out_size, hvl::filter_from_name(filter));
        return py::make_tuple(py::array_t<int32_t>(out_size, taps.first.data()),
                              py::array_t<int32_t>({out_size, taps.taps}, taps.weights.data()));
      },
      py::arg("in_size"), py::arg("out_size"), py::arg("filter"));
  m.def("resize_vertical_first", &hvl::resize_vertical_first, py::arg("in_height"), py::arg("in_width"), py::arg("out_height"),
        py::arg("out_width"));
  m.def(
      "resize_horizontal",
      [](const std::string& variant, const hvl::Pixels& image, const hvl::Taps& first, const hvl::Taps& weights, int begin, int end) {
        return hvl::resize_pass(variant, false, image, first, weights, begin, end);
      },
      py::arg("variant"), py::arg("image"), py::arg("first"), py::arg("weights"), py::arg("begin") = 0, py::arg("end") = -1);
  m.def(
      "resize_vertical",
      [](const std::string& variant, const hvl::Pixels& image, const hvl::Taps& first, const hvl::Taps& weights, int begin, int end) {
        return hvl::resize_pass(variant, true, image, first, weights, begin, end);
      },
      py::arg("variant"), py::arg("image"), py::arg("first"), py::arg("weights"), py::arg("begin") = 0, py::arg("end") = -1);
}

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "csrc/base/cpu_info.h"
#include "kernels/common/testing.h"
#include "kernels/registry.h"
#include "kernels/vrc/pack.h"

namespace py = pybind11;

namespace hvl {
namespace {

using U8 = py::array_t<uint8_t, py::array::c_style>;
using I8 = py::array_t<int8_t, py::array::c_style>;
using testing::virtual_base;
using F32 = py::array_t<float, py::array::c_style>;

const KernelTable& kernels(const std::string& variant) { return kernel_table(isa_from_name(variant)); }

// Half-open range of work units; end < 0 means all.
void check_range(int begin, int* end, int units) {
  if (*end < 0) *end = units;
  if (begin < 0 || begin > *end || *end > units) throw py::value_error("expected 0 <= begin <= end <= units");
}

U8 zeros(std::initializer_list<py::ssize_t> shape) {
  U8 out{py::array::ShapeContainer(shape)};
  std::fill_n(out.mutable_data(), out.size(), uint8_t(0));
  return out;
}

// Lines of a 3x3 convolution: the input from line `first` on, as far as it is there, and the output, all of it or lines [begin, end).
struct Lines {
  Lines(const U8& in, int stride, int begin, int& end, int first, int in_height, std::optional<U8>& given, int32_t channels)
      : height(in_height < 0 ? int32_t(in.shape(0)) : in_height), width(int32_t(in.shape(1))) {
    if (height < 1 || width < 1 || first < 0 || height < first + in.shape(0)) {
      throw py::value_error("expected the input's lines within in_height");
    }
    out_height = (height - 1) / stride + 1;
    out_width = (width - 1) / stride + 1;
    check_range(begin, &end, out_height);
    if (begin < end && (first > std::max(0, begin * stride - 1) || first + in.shape(0) < std::min(height, (end - 1) * stride + 2))) {
      throw py::value_error("expected the input lines that output lines begin .. end - 1 read");
    }
    result = given ? *given : zeros({out_height, out_width, channels});
    if (given && (given->ndim() != 3 || given->shape(0) != end - begin || given->shape(1) != out_width || given->shape(2) != channels)) {
      throw py::value_error("expected out (end - begin, out_width, channels)");
    }
    x = virtual_base(in.data(), int64_t(first) * width * in.shape(2));
    y = virtual_base(result.mutable_data(), given ? int64_t(begin) * out_width * channels : 0);
  }
  int32_t height, width, out_height, out_width;
  U8 result;
  const uint8_t* x;
  uint8_t* y;
};

VrcLayer pack(const std::string& kind, const I8& weight, const F32& weight_scale, const F32& bias, double in_scale, int in_zero_point,
              double out_scale) {
  const py::ssize_t outputs = weight.shape(0);
  if (weight_scale.size() != outputs || bias.size() != outputs) throw py::value_error("expected one scale and one bias an output");
  const VrcFloatLayer layer{kind,     int32_t(outputs), weight.data(), weight_scale.data(), bias.data(),
                            in_scale, in_zero_point,    out_scale};
  if (kind == "stem" && weight.size() == outputs * 27) return pack_vrc_stem(layer);
  if (kind == "depthwise" && weight.size() == outputs * 9) return pack_vrc_depthwise(layer);
  if (kind == "pointwise" && weight.ndim() >= 2) return pack_vrc_pointwise(layer, int32_t(weight.size() / outputs));
  throw py::value_error("expected kind stem, depthwise or pointwise and weights of its shape");
}

U8 stem(const std::string& variant, const U8& image, const VrcLayer& layer, int begin, int end, int first, int in_height,
        std::optional<U8> out) {
  if (image.ndim() != 3 || image.shape(2) != 3) throw py::value_error("expected image (h, w, 3)");
  Lines l(image, 2, begin, end, first, in_height, out, layer.channels);
  const VrcStemArgs args{l.x, l.y, l.height, l.width, l.out_height, l.out_width, layer.channels, layer.weight.data(), layer.requant()};
  kernels(variant).vrc_stem(args, begin, end);
  return l.result;
}

U8 depthwise(const std::string& variant, const U8& in, const VrcLayer& layer, int stride, int in_zero_point, int begin, int end, int first,
             int in_height, std::optional<U8> out) {
  if (in.ndim() != 3 || in.shape(2) != layer.channels) throw py::value_error("expected input (h, w, channels)");
  if (stride != 1 && stride != 2) throw py::value_error("expected stride 1 or 2");
  Lines l(in, stride, begin, end, first, in_height, out, layer.channels);
  const VrcDepthwiseArgs args{l.x,    l.y,           l.height,            l.width,        l.out_height, l.out_width, layer.channels,
                              stride, in_zero_point, layer.weight.data(), layer.requant()};
  kernels(variant).vrc_depthwise(args, begin, end);
  return l.result;
}

U8 pointwise(const std::string& variant, const U8& in, const VrcLayer& layer, int out_zero_point, const py::object& residual,
             double residual_scale, int begin, int end, std::optional<U8> given) {
  if (in.ndim() != 2 || in.shape(1) < 4 * layer.k_groups) throw py::value_error("expected input (pixels, at least 4 * k_groups)");
  const int32_t pixels = int32_t(in.shape(0));
  VrcPointwiseArgs args{};
  U8 out = given ? *given : zeros({pixels, layer.channels});
  if (out.size() != py::ssize_t{pixels} * layer.channels) throw py::value_error("expected out (pixels, channels)");
  args.in = in.data();
  args.out = out.mutable_data();
  args.pixels = pixels;
  args.in_stride = int32_t(in.shape(1));
  args.k_groups = layer.k_groups;
  args.channels = layer.channels;
  args.weight = layer.weight.data();
  args.requant = layer.requant();
  args.out_zero_point = out_zero_point;
  U8 added;
  if (!residual.is_none()) {
    added = residual.cast<U8>();
    if (added.size() != out.size()) throw py::value_error("expected a residual of the output's shape");
    const VrcMultiplier m = vrc_residual_multiplier("residual", residual_scale, 1.0);
    args.residual = added.data();
    args.residual_multiplier = m.multiplier;
    args.residual_shift = m.shift;
  }
  check_range(begin, &end, vrc_pointwise_units(args));
  kernels(variant).vrc_pointwise(args, begin, end);
  return out;
}

U8 pool(const std::string& variant, const U8& in, const U8& weight, int begin, int end) {
  if (in.ndim() != 2 || weight.ndim() != 2 || in.shape(0) != weight.shape(0) || in.shape(1) % kVrcLanes != 0 || in.shape(0) < 1 ||
      in.shape(0) > kVrcPoolMaxPixels) {
    throw py::value_error("expected input (pixels, channels) and weight (pixels, stride)");
  }
  check_range(begin, &end, int(in.shape(1)) / kVrcLanes);
  U8 out = zeros({in.shape(1)});
  const VrcPoolArgs args{in.data(), weight.data(), out.mutable_data(), int32_t(in.shape(0)), int32_t(in.shape(1)), int32_t(weight.shape(1))};
  kernels(variant).vrc_pool(args, begin, end);
  return out;
}

py::array_t<int32_t> to_numpy(const std::vector<int32_t>& v) { return py::array_t<int32_t>(py::ssize_t(v.size()), v.data()); }

}  // namespace
}  // namespace hvl

void bind_vrc(py::module_& m) {
  using hvl::VrcLayer;
  py::class_<VrcLayer>(m, "VrcLayer")
      .def_readonly("channels", &VrcLayer::channels)
      .def_readonly("k_groups", &VrcLayer::k_groups)
      .def_property_readonly("bias", [](const VrcLayer& l) { return hvl::to_numpy(l.bias); })
      .def_property_readonly("multiplier", [](const VrcLayer& l) { return hvl::to_numpy(l.multiplier); })
      .def_property_readonly("shift", [](const VrcLayer& l) { return hvl::to_numpy(l.shift); });
  m.def("vrc_pack", &hvl::pack, py::arg("kind"), py::arg("weight"), py::arg("weight_scale"), py::arg("bias"), py::arg("in_scale"),
        py::arg("in_zero_point"), py::arg("out_scale"));
  m.def(
      "vrc_multiplier",
      [](double scale) {
        const hvl::VrcMultiplier r = hvl::vrc_multiplier("test", scale);
        return py::make_tuple(r.multiplier, r.shift);
      },
      py::arg("scale"));
  m.def("vrc_stem", &hvl::stem, py::arg("variant"), py::arg("image"), py::arg("layer"), py::arg("begin") = 0, py::arg("end") = -1,
        py::arg("first") = 0, py::arg("in_height") = -1, py::arg("out").noconvert() = py::none());
  m.def("vrc_depthwise", &hvl::depthwise, py::arg("variant"), py::arg("input"), py::arg("layer"), py::arg("stride"),
        py::arg("in_zero_point"), py::arg("begin") = 0, py::arg("end") = -1, py::arg("first") = 0, py::arg("in_height") = -1,
        py::arg("out").noconvert() = py::none());
  m.def("vrc_pointwise", &hvl::pointwise, py::arg("variant"), py::arg("input"), py::arg("layer"), py::arg("out_zero_point"),
        py::arg("residual") = py::none(), py::arg("residual_scale") = 1.0, py::arg("begin") = 0, py::arg("end") = -1,
        py::arg("out").noconvert() = py::none());
  m.def("vrc_pool", &hvl::pool, py::arg("variant"), py::arg("input"), py::arg("weight"), py::arg("begin") = 0, py::arg("end") = -1);
}

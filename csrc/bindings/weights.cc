// WeightPacker, WeightStore, quantize_groups, hash64.
#include <errno.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string.h>

#include <optional>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/io/quantize_groups.h"
#include "csrc/io/weight_packer.h"
#include "csrc/io/weight_store.h"
#include "kernels/linear/pack.h"

namespace py = pybind11;

namespace {

using namespace hvl;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// A numpy array of exactly this dtype, in C order and, where given, of this many axes: never a silent conversion or copy.
template <typename T>
Array<T> exact(const py::array& array, const char* what, int axes = -1) {
  if (!py::isinstance<Array<T>>(array) || (axes >= 0 && array.ndim() != axes)) {
    fail(ErrorKind::kValue, what, ": expected a C-contiguous array of ", std::string(py::str(py::dtype::of<T>())),
         axes >= 0 ? " with " + std::to_string(axes) + " axes" : "", ", got ", std::string(py::str(array.dtype())), " with ", array.ndim());
  }
  return py::reinterpret_borrow<Array<T>>(array);
}

py::dtype numpy_dtype(const std::string& dtype) {
  static const std::unordered_map<std::string, const char*> kNames = {{"F32", "float32"}, {"F16", "float16"}, {"BF16", "uint16"}, {"I8", "int8"},
                                                                      {"U8", "uint8"},    {"I16", "int16"},   {"I32", "int32"},   {"I64", "int64"}};
  return py::dtype(kNames.at(dtype));
}

void write_linear(WeightPacker& packer, const std::string& name, const py::array& words, const py::array& scales,
                  const std::optional<py::array>& zero_points) {
  const auto w = exact<int32_t>(words, "weight_packed", 2);
  const auto s = exact<float>(scales, "weight_scale", 2);
  const int64_t rows = packer.planned(name).shape[0];
  if (w.shape(0) != rows || s.shape(0) != rows || s.shape(1) > (1 << 28)) {
    fail(ErrorKind::kValue, name, ": expected ", rows, " rows, got ", w.shape(0), " of words and ", s.shape(0), " of scales");
  }
  std::optional<Array<int8_t>> z;
  if (zero_points) {
    z = exact<int8_t>(*zero_points, "zero_points", 2);
    if (z->shape(0) != s.shape(0) || z->shape(1) != s.shape(1)) {
      fail(ErrorKind::kValue, name, ": expected zero points of the scales' shape, (", s.shape(0), ", ", s.shape(1), "), got (", z->shape(0),
           ", ", z->shape(1), ")");
    }
  }
  const int8_t* zeros_from = z ? z->data() : nullptr;
  const int32_t* from = w.data();
  const float* scales_from = s.data();
  const int64_t words_per_row = w.shape(1);
  const int32_t scale_cols = static_cast<int32_t>(s.shape(1));
  py::gil_scoped_release release;
  packer.write_linear(name, from, words_per_row, scales_from, zeros_from, scale_cols);
}

void write_array(WeightPacker& packer, const std::string& name, const py::array& values) {
  const Section& planned = packer.planned(name);
  if (planned.is_linear) fail(ErrorKind::kValue, name, " was planned as a linear");
  std::vector<int64_t> shape(values.shape(), values.shape() + values.ndim());
  if (!values.dtype().equal(numpy_dtype(planned.dtype)) || shape != planned.shape || !(values.flags() & py::array::c_style)) {
    fail(ErrorKind::kValue, name, ": expected the planned shape, dtype ", planned.dtype, " and C order, got ",
         std::string(py::str(values.dtype())), " ", std::string(py::str(py::cast(shape))));
  }
  const void* from = values.data();
  const size_t bytes = static_cast<size_t>(values.nbytes());
  py::gil_scoped_release release;
  packer.write_array(name, from, bytes);
}

Array<float> dequantize(const WeightStore& store, const std::string& name) {
  const StoredTensor& t = store.get(name);
  if (!t.is_linear) fail(ErrorKind::kValue, name, " is an array, not a packed linear");
  const LinearWeight& w = t.linear;
  Array<float> out({py::ssize_t(w.rows), py::ssize_t(w.cols)});
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  std::vector<int8_t> q(static_cast<size_t>(w.cols));
  std::vector<float> scales(static_cast<size_t>(linear_groups(w)));
  std::vector<int8_t> zero_points(scales.size());
  for (int32_t row = 0; row < w.rows; ++row, to += w.cols) {
    unpack_row(w, row, q.data(), scales.data(), zero_points.data());
    for (int32_t c = 0; c < w.cols; ++c) to[c] = static_cast<float>(q[c] - zero_points[c / w.group_size]) * scales[c / w.group_size];
  }
  return out;
}

py::array array_copy(const WeightStore& store, const std::string& name) {
  const StoredTensor& t = store.get(name);
  if (t.is_linear) fail(ErrorKind::kValue, name, " is a packed linear, not an array");
  py::array out(numpy_dtype(t.dtype), t.shape);
  if (t.bytes > 0) memcpy(out.mutable_data(), t.data, t.bytes);
  return out;
}

py::dict tensor_info(const WeightStore& store, const std::string& name) {
  const StoredTensor& t = store.get(name);
  py::dict info;
  info["shape"] = py::tuple(py::cast(t.shape));
  info["dtype"] = t.is_linear ? "linear" : t.dtype;
  info["bytes"] = t.bytes;
  if (t.is_linear) {
    info["bits"] = t.linear.bits;
    info["group_size"] = t.linear.group_size;
    info["scale_bits"] = t.linear.scale_bits;
    info["zero_points"] = t.linear.zero_points != 0;
  }
  return info;
}

py::tuple quantize(const py::array& weight, int bits, int64_t group_size, bool search) {
  const auto w = exact<float>(weight, "weight", 2);
  if (group_size < 1 || w.shape(1) % group_size != 0) {
    fail(ErrorKind::kValue, "a group of ", group_size, " does not divide ", w.shape(1), " columns");
  }
  Array<int8_t> q({w.shape(0), w.shape(1)});
  Array<float> scales({w.shape(0), py::ssize_t(w.shape(1) / group_size)});
  {
    int8_t* to = q.mutable_data();
    float* scales_to = scales.mutable_data();
    py::gil_scoped_release release;
    quantize_groups(w.data(), w.shape(0), w.shape(1), bits, group_size, search, to, scales_to);
  }
  return py::make_tuple(q, scales);
}

}  // namespace

void bind_weights(py::module_& m) {
  // Errors of the system keep their number: OSError with errno, so that Python tells a full disk from a read-only one.
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      std::rethrow_exception(p);
    } catch (const std::system_error& e) {
      errno = e.code().value();
      const std::string what = e.what();
      PyErr_SetObject(PyExc_OSError, py::make_tuple(e.code().value(), what).ptr());
    }
  });

  py::class_<WeightStore, std::shared_ptr<WeightStore>>(m, "WeightStore")
      .def_static("open", &WeightStore::open, py::arg("path"), py::arg("fingerprint"), py::arg("known") = "",
                  py::call_guard<py::gil_scoped_release>())
      .def("names",
           [](const WeightStore& store) {
             std::vector<std::string> names;
             for (const StoredTensor& t : store.tensors()) names.push_back(t.name);
             return names;
           })
      .def("info", &tensor_info, py::arg("name"))
      .def("array", &array_copy, py::arg("name"))
      .def("dequantize", &dequantize, py::arg("name"))
      .def("make_private", &WeightStore::make_private, py::arg("prefixes"), py::call_guard<py::gil_scoped_release>())
      .def("make_private_later", &WeightStore::make_private_later, py::arg("prefixes"))
      .def_property_readonly("bytes", &WeightStore::bytes)
      .def_property_readonly("identity", &WeightStore::identity)
      .def_property_readonly("config_json", &WeightStore::config_json);

  py::class_<WeightPacker>(m, "WeightPacker")
      .def(py::init([](const std::optional<std::string>& path, std::string fingerprint, std::string config_json) {
             if (path && path->empty()) fail(ErrorKind::kValue, "path must not be empty: None packs into private memory");
             return WeightPacker(path.value_or(""), std::move(fingerprint), std::move(config_json));
           }),
           py::arg("path"), py::arg("fingerprint"), py::arg("config_json"))
      .def("plan_linear", &WeightPacker::plan_linear, py::arg("name"), py::arg("rows"), py::arg("cols"), py::arg("bits"),
           py::arg("group_size"), py::arg("scale_bits"), py::arg("zero_points") = false)
      .def("plan_array", &WeightPacker::plan_array, py::arg("name"), py::arg("dtype"), py::arg("shape"))
      .def("begin", &WeightPacker::begin, py::call_guard<py::gil_scoped_release>())
      .def("write_linear", &write_linear, py::arg("name"), py::arg("weight_packed"), py::arg("weight_scale"),
           py::arg("zero_points") = py::none())
      .def("write_array", &write_array, py::arg("name"), py::arg("values"))
      .def("finish", &WeightPacker::finish, py::call_guard<py::gil_scoped_release>());

  m.def("quantize_groups", &quantize, py::arg("weight"), py::arg("bits"), py::arg("group_size"), py::arg("search") = true);
  m.def("hash64", [](const py::array& data) {
    const auto bytes = exact<uint8_t>(data, "data");
    const uint8_t* from = bytes.data();
    const size_t count = static_cast<size_t>(bytes.nbytes());
    py::gil_scoped_release release;
    return hash64(from, count);
  }, py::arg("data"));
  m.attr("PACK_VERSION") = kPackedFormat * 1000 + kPackedLayout;
}

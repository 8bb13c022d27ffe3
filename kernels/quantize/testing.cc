// numpy bindings of the quantize kernels, for tests and benchmarks.
#include "kernels/quantize/quantize.h"

#include "kernels/linear/testing_arrays.h"

namespace hvl::testing {
namespace {

struct OutArrays {
  Array<uint8_t> q;       // (rows, padded_cols * bits / 8)
  Array<float> scales;    // (rows, groups)
  Array<int32_t> sums;    // (rows, groups, 2)
  QuantizedRows rows;

  py::tuple tuple() const { return py::make_tuple(q, scales, sums); }
};

// Filled with a pattern, so that a byte that is not written shows.
OutArrays make_out(int32_t rows, int32_t cols, int32_t group_size, int32_t bits) {
  check_group_size(group_size, 8, false);
  check(bits == 8 || bits == 16, "expected bits 8 or 16, got " + std::to_string(bits));
  const int32_t groups = quantized_groups(cols, group_size);
  OutArrays out = {aligned_array<uint8_t>({rows, groups * group_size * (bits / 8)}), aligned_array<float>({rows, groups}),
                   aligned_array<int32_t>({rows, groups, 2}), {}};
  std::fill_n(out.q.mutable_data(), out.q.size(), uint8_t(0xa5));
  out.rows = {out.q.mutable_data(), out.scales.mutable_data(), out.sums.mutable_data(), rows, cols, group_size, bits};
  return out;
}

py::tuple quantize(const Array<float>& x, int32_t group_size, int32_t bits, const std::string& variant, int32_t begin, int32_t end) {
  check(x.ndim() == 2, "expected x of shape (rows, cols)");
  const int32_t rows = int32_t(x.shape(0)), cols = int32_t(x.shape(1));
  OutArrays out = make_out(rows, cols, group_size, bits);
  const auto [first, last] = cut(begin, end, rows);
  HVL_PICK(variant, quantize)({x.data(), cols, out.rows}, first, last);
  return out.tuple();
}

py::tuple quantize_i16(const Array<int16_t>& x, float scale, int32_t group_size, const std::string& variant, int32_t begin,
                       int32_t end) {
  check(x.ndim() == 2, "expected x of shape (rows, cols)");
  const int32_t rows = int32_t(x.shape(0)), cols = int32_t(x.shape(1));
  OutArrays out = make_out(rows, cols, group_size, 16);
  const auto [first, last] = cut(begin, end, rows);
  HVL_PICK(variant, quantize_i16)({x.data(), scale, out.rows}, first, last);
  return out.tuple();
}

}  // namespace
}  // namespace hvl::testing

void bind_quantize(pybind11::module_& m) {
  using namespace hvl::testing;
  using pybind11::arg;
  m.def("quantize", &quantize, arg("x").noconvert(), arg("group_size"), arg("bits"), arg("variant"), arg("begin") = 0, arg("end") = -1,
        "x (rows, cols) float32 -> q (rows, padded_cols * bits / 8) uint8, scales (rows, groups), sums (rows, groups, 2)");
  m.def("quantize_i16", &quantize_i16, arg("x").noconvert(), arg("scale"), arg("group_size"), arg("variant"), arg("begin") = 0,
        arg("end") = -1, "x (rows, cols) int16 of one scale -> q, scales, sums as quantize with bits 16");
}

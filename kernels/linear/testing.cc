// numpy bindings of the linear kernel and of weight packing, for tests and benchmarks.
#include "kernels/linear/linear.h"

#include "kernels/common/testing.h"
#include "kernels/linear/pack.h"
#include "kernels/linear/testing_arrays.h"

namespace hvl::testing {
namespace {

using ZeroPoints = std::optional<Array<int8_t>>;

LinearWeight layout_of(int32_t rows, int32_t cols, int32_t bits, int32_t group_size, int32_t scale_bits, bool zero_points) {
  check(bits == 4 || bits == 8, "expected bits 4 or 8, got " + std::to_string(bits));
  check_group_size(group_size, bits, zero_points);
  check(scale_bits == 16 || scale_bits == 32, "expected scale_bits 16 or 32, got " + std::to_string(scale_bits));
  return {nullptr, rows, cols, bits, group_size, scale_bits, zero_points};
}

void check_scales(const Array<float>& scales, const ZeroPoints& zero_points, const LinearWeight& layout) {
  check(scales.ndim() == 2 && scales.shape(0) == layout.rows && (scales.shape(1) == linear_groups(layout) || scales.shape(1) == 1),
        "expected scales (rows, groups) or (rows, 1)");
  check(!zero_points || (zero_points->ndim() == 2 && zero_points->shape(0) == layout.rows && zero_points->shape(1) == scales.shape(1)),
        "expected zero_points of the scales' shape");
}

// Packs in ranges of `step` row blocks.
template <typename Pack>
Array<uint8_t> pack_in_steps(const LinearWeight& layout, int32_t step, const Pack& pack) {
  Array<uint8_t> packed = aligned_array<uint8_t>({py::ssize_t(linear_bytes(layout))});
  const int32_t blocks = linear_row_blocks(layout);
  bool exact = true;
  for (int32_t b = 0; b < blocks; b += step) exact = pack(packed.mutable_data(), b, std::min(blocks, b + step)) && exact;
  check(exact, "a scale is not exact in F16: use scale_bits 32");
  return packed;
}

Array<uint8_t> pack(const Array<int8_t>& q, const Array<float>& scales, int32_t bits, int32_t group_size, int32_t scale_bits, int32_t step,
                    const ZeroPoints& zero_points) {
  check(q.ndim() == 2, "expected q of shape (rows, cols)");
  const LinearWeight layout = layout_of(int32_t(q.shape(0)), int32_t(q.shape(1)), bits, group_size, scale_bits, zero_points.has_value());
  check_scales(scales, zero_points, layout);
  return pack_in_steps(layout, step, [&](uint8_t* dst, int32_t begin, int32_t end) {
    return pack_linear(q.data(), scales.data(), zero_points ? zero_points->data() : nullptr, int32_t(scales.shape(1)), layout, dst, begin, end);
  });
}

Array<uint8_t> pack_words(const Array<int32_t>& words, int32_t cols, const Array<float>& scales, int32_t bits, int32_t group_size,
                          int32_t scale_bits, int32_t step, const ZeroPoints& zero_points) {
  check(words.ndim() == 2 && words.shape(1) * 32 >= int64_t(cols) * bits, "expected words of shape (rows, ceil(cols * bits / 32))");
  const LinearWeight layout = layout_of(int32_t(words.shape(0)), cols, bits, group_size, scale_bits, zero_points.has_value());
  check_scales(scales, zero_points, layout);
  return pack_in_steps(layout, step, [&](uint8_t* dst, int32_t begin, int32_t end) {
    return pack_linear_words(words.data(), words.shape(1), scales.data(), zero_points ? zero_points->data() : nullptr, int32_t(scales.shape(1)), layout,
                             dst, begin, end);
  });
}

py::tuple unpack(const Array<uint8_t>& packed, int32_t rows, int32_t cols, int32_t bits, int32_t group_size, int32_t scale_bits) {
  const LinearWeight weight = weight_of(packed, rows, cols, bits, group_size, scale_bits);
  const int32_t groups = linear_groups(weight);
  Array<int8_t> q({rows, cols});
  Array<float> scales({rows, groups});
  Array<int8_t> zero_points({rows, groups});
  for (int32_t r = 0; r < rows; ++r) {
    unpack_row(weight, r, q.mutable_data() + int64_t(r) * cols, scales.mutable_data() + int64_t(r) * groups,
               zero_points.mutable_data() + int64_t(r) * groups);
  }
  return py::make_tuple(q, scales, zero_points);
}

void linear(const Array<uint8_t>& q, const Array<float>& scales, const Array<int32_t>& sums, int32_t cols, int32_t x_bits,
            const Array<uint8_t>& packed, int32_t rows, int32_t bits, int32_t group_size, int32_t scale_bits,
            const std::optional<Array<float>>& bias, const std::optional<Array<float>>& residual, Array<float>& out,
            const std::string& variant, int32_t begin, int32_t end, bool window) {
  check(!window || (0 <= begin && begin <= end), "expected begin and end of the window");
  const int32_t first_block = window ? begin : 0;
  LinearWeight weight = weight_of(packed, rows, cols, bits, group_size, scale_bits, window ? end - begin : -1);
  weight.data = virtual_base(weight.data, first_block * int64_t(linear_block_bytes(weight)));
  const int32_t groups = linear_groups(weight);
  const py::ssize_t tokens = q.ndim() == 2 ? q.shape(0) : -1;
  check(x_bits == 8 || x_bits == 16, "expected x_bits 8 or 16, got " + std::to_string(x_bits));
  check(tokens >= 0 && q.shape(1) == groups * group_size * (x_bits / 8), "expected q (tokens, padded_cols * x_bits / 8)");
  check(scales.size() == tokens * groups && sums.size() == tokens * groups * 2, "expected scales (tokens, groups), sums (tokens, groups, 2)");
  check(out.ndim() == 2 && out.shape(0) == tokens && out.shape(1) >= rows, "expected out (tokens, at least rows)");
  const int32_t first_row = first_block * kLinearRowBlock, last_row = window ? std::min(rows, end * kLinearRowBlock) : rows;
  check(!bias || bias->size() == last_row - first_row, "expected bias (rows)");
  check(!residual || (residual->ndim() == 2 && residual->shape(0) == tokens && residual->shape(1) == out.shape(1)),
        "expected residual of out's shape");
  LinearArgs args = {};
  args.x = {const_cast<uint8_t*>(q.data()), const_cast<float*>(scales.data()), const_cast<int32_t*>(sums.data()), int32_t(tokens), cols,
            group_size, x_bits};
  args.weight = weight;
  args.bias = bias ? virtual_base(bias->data(), first_row) : nullptr;
  args.residual = residual ? residual->data() : nullptr;
  args.out = out.mutable_data();
  args.out_stride = out.shape(1);
  const auto [first, last] = cut(begin, end, linear_row_blocks(weight));
  const auto kernel = HVL_PICK(variant, linear);
  py::gil_scoped_release release;
  kernel(args, first, last);
}

}  // namespace
}  // namespace hvl::testing

void bind_linear(pybind11::module_& m) {
  using namespace hvl::testing;
  using pybind11::arg;
  m.def("pack_linear", &pack, arg("q").noconvert(), arg("scales").noconvert(), arg("bits"), arg("group_size"), arg("scale_bits"),
        arg("step") = 1 << 20, arg("zero_points").noconvert() = py::none(),
        "q (rows, cols) int8, scales and perhaps zero_points int8 (rows, groups or 1) -> packed bytes; ValueError if a scale is not exact in F16");
  m.def("pack_linear_words", &pack_words, arg("words").noconvert(), arg("cols"), arg("scales").noconvert(), arg("bits"),
        arg("group_size"), arg("scale_bits"), arg("step") = 1 << 20, arg("zero_points").noconvert() = py::none(), "the same from compressed-tensors' weight_packed (rows, words) int32");
  m.def("unpack_linear", &unpack, arg("packed").noconvert(), arg("rows"), arg("cols"), arg("bits"), arg("group_size"), arg("scale_bits"),
        "packed bytes -> q (rows, cols) int8, scales (rows, groups), zero_points int8 (rows, groups)");
  m.def("linear", &linear, arg("q").noconvert(), arg("scales").noconvert(), arg("sums").noconvert(), arg("cols"), arg("x_bits"),
        arg("packed").noconvert(), arg("rows"), arg("bits"), arg("group_size"), arg("scale_bits"), arg("bias").none(true),
        arg("residual").none(true), arg("out").noconvert(), arg("variant"), arg("begin") = 0, arg("end") = -1,
        arg("window") = false,
        "out (tokens, stride) = x W^T (+ bias) (+ residual) for row blocks [begin, end); window: packed and bias hold those blocks only");
}

// numpy bindings of the embed kernel, for tests and benchmarks.
#include "kernels/embed/embed.h"

#include "kernels/common/testing.h"
#include "kernels/linear/testing_arrays.h"

namespace hvl::testing {
namespace {

void embed(const Array<uint8_t>& packed, int32_t vocab, int32_t hidden, int32_t bits, int32_t group_size, int32_t scale_bits,
           const Array<int32_t>& ids, Array<float>& out, const std::string& variant, int32_t begin, int32_t end,
           int32_t only_block) {
  LinearWeight weight = weight_of(packed, vocab, hidden, bits, group_size, scale_bits, only_block < 0 ? -1 : 1);
  if (only_block >= 0) weight.data = virtual_base(weight.data, only_block * int64_t(linear_block_bytes(weight)));
  check(ids.ndim() == 1 && out.ndim() == 2 && out.shape(0) == ids.shape(0) && out.shape(1) >= hidden,
        "expected ids (rows) and out (rows, at least hidden)");
  for (py::ssize_t i = 0; i < ids.size(); ++i) {
    check(ids.data()[i] < vocab, "expected ids below the vocabulary's size");
    check(only_block < 0 || ids.data()[i] < 0 || ids.data()[i] / kLinearRowBlock == only_block, "expected ids of only_block");
  }
  const auto [first, last] = cut(begin, end, int32_t(ids.size()));
  HVL_PICK(variant, embed)({weight, ids.data(), out.mutable_data(), out.shape(1), int32_t(ids.size())}, first, last);
}

}  // namespace
}  // namespace hvl::testing

void bind_embed(pybind11::module_& m) {
  using pybind11::arg;
  m.def("embed", &hvl::testing::embed, arg("packed").noconvert(), arg("vocab"), arg("hidden"), arg("bits"), arg("group_size"),
        arg("scale_bits"), arg("ids").noconvert(), arg("out").noconvert(), arg("variant"), arg("begin") = 0, arg("end") = -1,
        arg("only_block") = -1,
        "writes rows `ids` of the packed (vocab, hidden) weight to out (rows, stride); negative ids leave their row alone; only_block: "
        "packed holds this row block only");
}

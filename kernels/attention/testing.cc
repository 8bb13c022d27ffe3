// numpy access to the attention kernel.
#include <pybind11/stl.h>

#include "kernels/kv_store/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void attention(const std::string& variant, const FloatArray& q, py::array& k_cache, py::array& v_cache, std::int32_t heads,
               std::int32_t position, std::int32_t kv_length, bool causal, float scale, FloatArray& out, const Cut& cut) {
  AttentionArgs args = {};
  args.cache = cache_of(k_cache, v_cache);
  require(args.cache.head_dim <= kAttentionMaxHeadDim, "head_dim: expected at most 256");
  require(heads > 0 && heads % args.cache.kv_heads == 0, "heads: expected a multiple of kv_heads");
  require(q.ndim() == 2 && q.shape(1) == py::ssize_t{heads} * args.cache.head_dim, "q: expected (rows, heads * head_dim)");
  require_shape(out, "out", {q.shape(0), q.shape(1)});
  const py::ssize_t keys = causal ? position + q.shape(0) : kv_length;
  require(position >= 0 && keys >= 1 && keys <= args.cache.capacity, "kv_length: expected 1 .. capacity keys");
  args.q = q.data();
  args.q_stride = q.shape(1);
  args.out = out.mutable_data();
  args.out_stride = q.shape(1);
  args.rows = static_cast<std::int32_t>(q.shape(0));
  args.heads = heads;
  args.position = position;
  args.kv_length = kv_length;
  args.causal = causal;
  args.scale = scale;
  const auto [begin, end] = range_of(cut, attention_units(args.rows, heads));
  HVL_PICK(variant, attention)(args, begin, end);
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention", &attention, py::arg("variant"), py::arg("q").noconvert(), py::arg("k_cache"), py::arg("v_cache"), py::arg("heads"),
        py::arg("position"), py::arg("kv_length"), py::arg("causal"), py::arg("scale"), py::arg("out").noconvert(),
        py::arg("cut") = py::none(), "Attention of q (rows, heads * head_dim) over caches as kv_store writes them, into out.");
}

// numpy access to the attention kernel.
#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "kernels/kv_store/testing.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void attention(const std::string& variant, const FloatArray& q, ByteArray& k_cache, ByteArray& v_cache, std::int32_t head_dim,
               std::int32_t bits, std::int32_t activation_bits, std::int32_t heads, std::int32_t position, std::int32_t key_end,
               bool causal, float scale, FloatArray& out, const Cut& cut, std::int32_t first_head, std::int32_t key_begin, bool first,
               bool last, FloatArray& state) {
  AttentionArgs args = {};
  args.cache = cache_of(k_cache, v_cache, head_dim, bits);
  require(activation_bits == 8 || activation_bits == 16, "activation_bits: expected 8 or 16");
  require(heads > 0 && heads % args.cache.kv_heads == 0, "heads: expected a multiple of kv_heads");
  require(q.ndim() == 2 && first_head >= 0 && q.shape(1) >= py::ssize_t{first_head + heads} * args.cache.head_dim,
          "q: expected (rows, at least (first_head + heads) * head_dim)");
  require_shape(out, "out", {q.shape(0), q.shape(1)});
  require(position >= 0 && key_begin >= 0 && key_begin % kAttentionChunk == 0, "key_begin: expected a multiple of 256");
  require(key_end > key_begin && key_end - key_begin <= args.cache.capacity, "key_end: expected 1 .. capacity keys after key_begin");
  if (!(first && last)) require_shape(state, "state", {q.shape(0), q.shape(1) / args.cache.head_dim, 2});
  const std::int64_t column = std::int64_t{first_head} * args.cache.head_dim;
  args.q = q.data() + column;
  args.q_stride = q.shape(1);
  args.out = out.mutable_data() + column;
  args.out_stride = q.shape(1);
  args.rows = static_cast<std::int32_t>(q.shape(0));
  args.heads = heads;
  args.activation_bits = activation_bits;
  args.position = position;
  args.key_begin = key_begin;
  args.key_end = key_end;
  args.causal = causal;
  args.scale = scale;
  args.first = first;
  args.last = last;
  if (!(first && last)) {
    args.state = state.mutable_data() + 2 * std::int64_t{first_head};
    args.state_stride = state.shape(1) * 2;
  }
  const auto [begin, end] = range_of(cut, attention_units(args.rows, heads));
  // Exactly what the contract asks for between two marks: NaN before (nothing may be expected of it), no byte of the marks written.
  constexpr std::size_t kMark = 128;
  const auto bytes = static_cast<std::size_t>(attention_scratch_bytes(head_dim));
  std::vector<std::uint8_t> memory(bytes + 3 * kMark, 0xff);
  args.scratch = memory.data() + kMark + (0 - reinterpret_cast<std::uintptr_t>(memory.data())) % kMark;
  HVL_PICK(variant, attention)(args, begin, end);
  const auto untouched = [](const std::uint8_t* p) { return std::all_of(p, p + kMark, [](std::uint8_t x) { return x == 0xff; }); };
  if (!untouched(args.scratch - kMark) || !untouched(args.scratch + bytes)) throw std::runtime_error("attention wrote beyond its scratch");
}

}  // namespace

void bind_attention(py::module_& m) {
  m.def("attention", &attention, py::arg("variant"), py::arg("q").noconvert(), py::arg("k_cache").noconvert(), py::arg("v_cache").noconvert(),
        py::arg("head_dim"), py::arg("bits"), py::arg("activation_bits"), py::arg("heads"), py::arg("position"), py::arg("key_end"),
        py::arg("causal"), py::arg("scale"), py::arg("out").noconvert(), py::arg("cut") = py::none(), py::arg("first_head") = 0, py::arg("key_begin") = 0, py::arg("first") = true, py::arg("last") = true,
        py::arg("state").noconvert() = FloatArray(),
        "Attention of `heads` heads of q (rows, heads * head_dim) from first_head on over their caches as kv_store writes them, into out: "
        "keys key_begin .. key_end - 1, state (rows, heads, 2) between the parts.");
}

// numpy access to the kv_store kernel.
#include "kernels/kv_store/testing.h"

#include <pybind11/stl.h>

#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;
using namespace hvl::testing;

namespace {

void kv_store(const std::string& variant, const FloatArray& k, const FloatArray& v, std::int32_t position, ByteArray& k_cache,
              ByteArray& v_cache, std::int32_t head_dim, std::int32_t bits, const Cut& cut) {
  KvStoreArgs args = {};
  args.cache = cache_of(k_cache, v_cache, head_dim, bits);
  require(k.ndim() == 2 && k.shape(1) == py::ssize_t{args.cache.kv_heads} * args.cache.head_dim, "k: expected (rows, kv_heads * head_dim)");
  require_shape(v, "v", {k.shape(0), k.shape(1)});
  require(position >= 0 && position + k.shape(0) <= args.cache.capacity, "position: expected position + rows <= capacity");
  args.k = k.data();
  args.v = v.data();
  args.kv_stride = k.shape(1);
  args.rows = static_cast<std::int32_t>(k.shape(0));
  args.position = position;
  const auto [begin, end] = range_of(cut, args.cache.kv_heads);
  HVL_PICK(variant, kv_store)(args, begin, end);
}

}  // namespace

void bind_kv_store(py::module_& m) {
  m.def("kv_store", &kv_store, py::arg("variant"), py::arg("k").noconvert(), py::arg("v").noconvert(), py::arg("position"),
        py::arg("k_cache").noconvert(), py::arg("v_cache").noconvert(), py::arg("head_dim"), py::arg("bits"), py::arg("cut") = py::none(),
        "Writes k and v (rows, kv_heads * head_dim) at position into k_cache and v_cache (kv_heads, capacity / 16, kv_block_bytes), uint8.");
  m.def("kv_block_bytes", &kv_block_bytes, py::arg("head_dim"), py::arg("bits"), "Bytes of 16 keys (or values) of a head in the cache.");
}

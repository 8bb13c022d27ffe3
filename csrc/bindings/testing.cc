// The test-only extension module: every kernel's variants, callable with numpy arrays, the scheduler, and threads.
#include <pybind11/pybind11.h>

namespace py = pybind11;

#define HVL_TESTED_FOLDERS(X) \
  X(activation) X(add) X(attention) X(common) X(embed) X(exp_sum) X(kv_store) X(linear) X(norm) X(patchify) X(pixel_shuffle) X(quantize) X(resize) X(rope) X(vrc)

#define HVL_DECLARE_BIND(folder) void bind_##folder(py::module_& m);
HVL_TESTED_FOLDERS(HVL_DECLARE_BIND)
void bind_lookup(py::module_& m);
void bind_schedule(py::module_& m);
void bind_threads(py::module_& m);
void bind_callgrind(py::module_& m);

PYBIND11_MODULE(_testing, m) {
  bind_lookup(m);
  bind_schedule(m);
  bind_threads(m);
  bind_callgrind(m);
#define HVL_BIND(folder) bind_##folder(m);
  HVL_TESTED_FOLDERS(HVL_BIND)
}

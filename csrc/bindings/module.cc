// The compiled module: errors, cpu_info, and what the other files bind.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <new>
#include <thread>

#include "csrc/base/cpu_info.h"
#include "csrc/base/error.h"
#include "csrc/bindings/bindings.h"
#include "kernels/registry.h"

namespace py = pybind11;
using namespace hvl;

namespace {

const char* python_error_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kCheckpoint:
      return "CheckpointError";
    case ErrorKind::kCancelled:
      return "CancelledError";
    case ErrorKind::kDevice:
      return "DeviceError";
    default:
      return "HyperVLError";
  }
}

void translate(const Error& e) {
  switch (e.kind()) {
    case ErrorKind::kValue:
      PyErr_SetString(PyExc_ValueError, e.what());
      return;
    case ErrorKind::kNotFound:
      PyErr_SetString(PyExc_FileNotFoundError, e.what());
      return;
    case ErrorKind::kMemory:
      PyErr_SetString(PyExc_MemoryError, e.what());
      return;
    default:
      // A signal handler (KeyboardInterrupt) may have raised already: that is why the call was cancelled.
      if (e.kind() == ErrorKind::kCancelled && PyErr_Occurred()) return;
      PyErr_SetString(py::module_::import("hypervl_engine.errors").attr(python_error_name(e.kind())).ptr(), e.what());
  }
}

// The variant of a kernel that is used under an instruction set, by name.
py::dict variants(Isa isa) {
  py::dict out;
#define HVL_VARIANT(set, name, Args) out[#name] = kIsaNames[static_cast<int>(written_for(isa, &KernelTable::name))];
  HVL_KERNELS(HVL_VARIANT, )
#undef HVL_VARIANT
  return out;
}

py::dict cpu_info() {
  py::list available;
  for (Isa isa : available_isas()) available.append(kIsaNames[static_cast<int>(isa)]);
  py::dict out;
  out["features"] = cpu_features();
  out["isa"] = kIsaNames[static_cast<int>(selected_isa())];
  out["available"] = available;
  out["threads"] = std::thread::hardware_concurrency();
  out["variants"] = variants(selected_isa());
  out["tvm"] = hvl_tvm_kernels;
  return out;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled engine; see _core.pyi.";
  const auto errors = py::module_::import("hypervl_engine.errors");
  for (const char* name : {"HyperVLError", "CheckpointError", "CancelledError"}) m.attr(name) = errors.attr(name);
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      translate(e);
    }
  });
  m.def("cpu_info", &cpu_info);
  bind_weights(m);
  bind_model(m);
  bind_spec(m);
  bind_plan(m);
  bind_microbenchmark(m);
  bind_roofline(m);
}

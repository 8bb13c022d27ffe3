// For kernels/*/testing.cc: choosing a variant by name and checking numpy arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "csrc/base/cpu_info.h"
#include "kernels/registry.h"

namespace hvl::testing {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style>;
using Cut = std::optional<std::pair<std::int32_t, std::int32_t>>;

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

// The function that `variant` names: an instruction set, or "fixed" for the integer arithmetic, whose int32 arrays come as views of float32.
// Throws Error for an unknown name or one this machine cannot run.
inline const KernelTable& table_named(const std::string& variant) {
  return variant == "fixed" ? kernel_table(Isa::kReference, Arithmetic::kInteger) : kernel_table(isa_from_name(variant));
}
#define HVL_PICK(variant, kernel) (::hvl::testing::table_named(variant).kernel)

// The range of units to do: all of them, or the cut asked for.
inline std::pair<std::int32_t, std::int32_t> range_of(const Cut& cut, std::int32_t units) {
  if (!cut) return {0, units};
  require(0 <= cut->first && cut->first <= cut->second && cut->second <= units,
          "cut: expected 0 <= begin <= end <= " + std::to_string(units) + ", got " + std::to_string(cut->first) + ", " +
              std::to_string(cut->second));
  return *cut;
}

// Element 0, perhaps not there, of something of which `there` is element `first`: how the executor passes a window.
template <class T>
T* virtual_base(T* there, std::int64_t first) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(there) - static_cast<std::uintptr_t>(first) * sizeof(T));
}

template <class T>
void require_shape(const py::array_t<T, py::array::c_style>& array, const char* name, std::initializer_list<py::ssize_t> shape) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  std::string expected;
  for (const py::ssize_t n : shape) {
    same = same && array.shape(axis++) == n;
    if (!expected.empty()) expected += ", ";
    expected += std::to_string(n);
  }
  require(same, std::string(name) + ": expected shape (" + expected + ")");
}

}  // namespace hvl::testing

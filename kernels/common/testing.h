// For kernels/*/testing.cc: choosing a variant by name and checking numpy arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/variants.h"

namespace hvl::testing {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style>;
using Cut = std::optional<std::pair<std::int32_t, std::int32_t>>;

inline bool machine_has(Isa isa) {
  switch (isa) {
    case Isa::kReference: return true;
    case Isa::kAvx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case Isa::kAvx512Vnni:
      return machine_has(Isa::kAvx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  }
  return false;
}

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

// The one of the variants' functions that `variant` names. Throws ValueError for an unknown name or one this machine cannot run.
template <class Function>
Function* pick(const std::string& variant, Function* reference, Function* avx2, Function* avx512vnni) {
  Function* const functions[kIsaCount] = {reference, avx2, avx512vnni};
  for (int i = 0; i < kIsaCount; ++i) {
    if (variant != kIsaNames[i]) continue;
    require(machine_has(static_cast<Isa>(i)), "this machine cannot run variant " + variant);
    return functions[i];
  }
  throw std::invalid_argument("variant: expected reference, avx2 or avx512vnni, got " + variant);
}

#define HVL_PICK(variant, kernel) \
  ::hvl::testing::pick(variant, &::hvl::kernel##_reference, &::hvl::kernel##_avx2, &::hvl::kernel##_avx512vnni)

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

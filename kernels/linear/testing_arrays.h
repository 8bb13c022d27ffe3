// What the numpy bindings of linear, quantize and embed share: aligned arrays, checks, and the variants of a kernel by name.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "csrc/base/error.h"
#include "kernels/common/testing.h"
#include "kernels/linear/linear.h"

namespace hvl::testing {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline void check(bool ok, const std::string& message) {
  if (!ok) throw py::value_error(message);
}

// A new zeroed array at a 64-byte boundary.
template <typename T>
Array<T> aligned_array(std::vector<py::ssize_t> shape) {
  size_t bytes = sizeof(T);
  for (py::ssize_t n : shape) bytes *= size_t(n);
  constexpr std::align_val_t kAlign{64};
  void* memory = ::operator new(bytes + 64, kAlign);
  std::fill_n(static_cast<char*>(memory), bytes + 64, 0);
  py::capsule owner(memory, [](void* p) { ::operator delete(p, kAlign); });
  return Array<T>(shape, static_cast<T*>(memory), owner);
}

// The units [begin, end) a call asks for; end < 0: all.
inline std::pair<int32_t, int32_t> cut(int32_t begin, int32_t end, int32_t units) {
  if (end < 0) end = units;
  check(0 <= begin && begin <= end && end <= units,
        "expected 0 <= begin <= end <= " + std::to_string(units) + ", got " + std::to_string(begin) + " and " + std::to_string(end));
  return {begin, end};
}

inline void check_group_size(int32_t group_size, int32_t bits, bool zero_points) {
  LinearWeight layout = {};
  layout.bits = bits, layout.group_size = group_size, layout.zero_points = zero_points;
  check(linear_group_fits(layout),
        "expected group_size 32, 64 or 128 (8 bits without zero points: to 512), got " + std::to_string(group_size));
}

// packed: the bytes of a packed (rows, cols) weight, or of `blocks` of its row blocks; their number tells whether it has zero points.
inline LinearWeight weight_of(const Array<uint8_t>& packed, int32_t rows, int32_t cols, int32_t bits, int32_t group_size,
                              int32_t scale_bits, int32_t blocks = -1) {
  check(bits == 4 || bits == 8, "expected bits 4 or 8, got " + std::to_string(bits));
  check_group_size(group_size, bits, false);
  check(scale_bits == 16 || scale_bits == 32, "expected scale_bits 16 or 32, got " + std::to_string(scale_bits));
  LinearWeight weight = {packed.data(), rows, cols, bits, group_size, scale_bits};
  const auto size = [&] { return blocks < 0 ? linear_bytes(weight) : blocks * linear_block_bytes(weight); };
  const size_t bytes = size();
  weight.zero_points = 1;
  if (size_t(packed.size()) == size()) return weight;
  weight.zero_points = 0;
  check(size_t(packed.size()) == bytes,
        "expected " + std::to_string(bytes) + " bytes of packed weight, got " + std::to_string(packed.size()));
  check(reinterpret_cast<uintptr_t>(packed.data()) % 64 == 0, "expected a packed weight at a 64-byte boundary: use what pack_linear returned");
  return weight;
}

}  // namespace hvl::testing

// A Plan: where in the arena each buffer of a Program lies. Buffers whose lifetimes do not meet share memory.
#pragma once

#include <cstddef>
#include <vector>

#include "csrc/program/program.h"

namespace hvl {

inline constexpr size_t kNotPlaced = ~size_t(0);

struct Plan {
  std::vector<size_t> offsets;  // by buffer; kNotPlaced for bound ones
  size_t arena_bytes = 0;       // what a run needs, and all it touches
};

// First op and last op (inclusive) during which a buffer must keep its content.
struct Lifetime {
  int32_t first = -1;
  int32_t last = -1;
};
std::vector<Lifetime> buffer_lifetimes(const Program& program);

Plan make_plan(const Program& program);

}  // namespace hvl

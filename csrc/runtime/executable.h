// A Program made ready to run: planned, its weights resolved to memory. Immutable; shared by sessions.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "csrc/program/program.h"
#include "csrc/schedule/plan.h"
#include "csrc/schedule/steps.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/linear/linear.h"

namespace hvl {

struct ResolvedWeight {
  LinearWeight linear = {};    // a packed linear, or
  const void* data = nullptr;  // an array
  size_t bytes = 0;            // of either
};

struct Executable {
  Program program;
  Plan plan;
  std::vector<ResolvedWeight> weights;  // parallel to program.weights
  std::vector<int16_t> windows;         // (groups, buffers): index in plan.windows, or -1
};

using WeightResolver = std::function<ResolvedWeight(const std::string& name)>;

// Fills in program.shapes; returns the weights, parallel to program.weights.
std::vector<ResolvedWeight> resolve_weights(Program& program, const WeightResolver& resolve);

// Throws Error(kValue) when the plan does not fit the program (check_plan).
Executable make_executable(Program program, std::vector<ResolvedWeight> weights, Plan plan);

inline constexpr int kMaxBuffers = 256;  // of a Program; checked by make_executable

// What changes from run to run.
struct RunArgs {
  std::array<void*, kMaxBuffers> bound = {};  // by BufferId: the memory of Space::kBound buffers
  const KvCache* states = nullptr;            // by repetition of the section that uses them
  RunScalars run;
  // kPatchify: size of the image and the tile's corner in it, pixels.
  int32_t image_height = 0, image_width = 0, tile_top = 0, tile_left = 0;
};

}  // namespace hvl

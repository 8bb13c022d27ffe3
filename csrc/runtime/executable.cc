#include "csrc/runtime/executable.h"

#include <utility>

#include "csrc/base/error.h"

namespace hvl {

std::vector<ResolvedWeight> resolve_weights(Program& program, const WeightResolver& resolve) {
  std::vector<ResolvedWeight> weights;
  weights.reserve(program.weights.size());
  program.shapes.clear();
  for (const std::string& name : program.weights) {
    const ResolvedWeight w = resolve(name);
    weights.push_back(w);
    const LinearWeight& l = w.linear;
    program.shapes.push_back({l.rows, l.cols, l.bits, l.group_size, l.scale_bits, l.zero_points, w.bytes});
  }
  return weights;
}

Executable make_executable(Program program, std::vector<ResolvedWeight> weights, Plan plan) {
  if (program.buffers.size() > size_t(kMaxBuffers)) {
    fail(ErrorKind::kRuntime, "program ", program.name, " has ", program.buffers.size(), " buffers, at most ", kMaxBuffers, " fit");
  }
  check_plan(program, plan);
  Executable e;
  e.windows.assign(plan.groups.size() * program.buffers.size(), -1);
  for (size_t w = 0; w < plan.windows.size(); ++w) {
    e.windows[plan.windows[w].group * program.buffers.size() + plan.windows[w].buffer] = int16_t(w);
  }
  e.plan = std::move(plan);
  e.weights = std::move(weights);
  e.program = std::move(program);
  return e;
}

}  // namespace hvl

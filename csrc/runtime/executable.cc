#include "csrc/runtime/executable.h"

#include <utility>

#include "csrc/base/error.h"

namespace hvl {

Executable make_executable(Program program, const WeightResolver& resolve) {
  if (program.buffers.size() > size_t(kMaxBuffers)) {
    fail(ErrorKind::kRuntime, "program ", program.name, " has ", program.buffers.size(), " buffers, at most ", kMaxBuffers, " fit");
  }
  Executable e;
  e.plan = make_plan(program);
  e.weights.reserve(program.weights.size());
  for (const std::string& name : program.weights) e.weights.push_back(resolve(name));
  e.program = std::move(program);
  return e;
}

}  // namespace hvl

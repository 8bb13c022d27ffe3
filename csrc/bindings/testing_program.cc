// Plans, for tests: where the buffers of a recorded Program lie and when they are alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "csrc/model/model.h"

namespace py = pybind11;
using namespace hvl;

namespace {

py::dict describe(const Executable& executable) {
  const std::vector<Lifetime> lives = buffer_lifetimes(executable.program);
  py::list buffers, ops;
  for (size_t b = 0; b < executable.program.buffers.size(); ++b) {
    const Buffer& buffer = executable.program.buffers[b];
    py::dict d;
    d["name"] = buffer.name;
    d["placed"] = executable.plan.offsets[b] != kNotPlaced;
    d["offset"] = executable.plan.offsets[b] == kNotPlaced ? 0 : executable.plan.offsets[b];
    d["bytes"] = buffer.bytes();
    d["first"] = lives[b].first;
    d["last"] = lives[b].last;
    buffers.append(d);
  }
  for (const Op& op : executable.program.ops) {
    py::dict d;
    d["in"] = std::vector<int>(op.in.begin(), op.in.end());
    d["out"] = int(op.out);
    ops.append(d);
  }
  py::list sections;
  for (const ProgramSection& s : executable.program.sections) sections.append(py::make_tuple(s.first_op, s.op_count, s.repeat));
  py::dict out;
  out["buffers"] = buffers;
  out["ops"] = ops;
  out["sections"] = sections;
  out["arena_bytes"] = executable.plan.arena_bytes;
  return out;
}

}  // namespace

void bind_program(py::module_& m) {
  py::module_::import("hypervl_engine._core");  // Model is registered there
  m.def("tile_plan", [](const std::shared_ptr<Model>& model, const std::string& branch, int32_t height, int32_t width) {
    return describe(model->tile(branch, height, width).tower);
  });
  m.def("text_plan", [](const std::shared_ptr<Model>& model, int32_t context_length) { return describe(model->text_layers(context_length)); });
  m.def("vrc_plan", [](const std::shared_ptr<Model>& model) { return describe(model->vrc()->executable()); });
}

// The scheduler, for tests: Programs of any shape without weights, where a Plan puts things and which steps it takes.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bindings/plan.h"
#include "csrc/io/packed_file.h"
#include "csrc/io/weight_store.h"
#include "csrc/schedule/scheduler.h"
#include "csrc/schedule/steps.h"

namespace py = pybind11;
using namespace hvl;

namespace {

// (name, shape, bits of a linear or 0, group size, dtype of an array)
using TensorShape = std::tuple<std::string, std::vector<int64_t>, int32_t, int32_t, std::string>;

// A store with every tensor in place but nothing in it: linears are pages that are never touched, floats are 0.01. Enough to record
// Programs of the full shape in a few milliseconds.
std::shared_ptr<WeightStore> hollow_weights(const std::vector<TensorShape>& tensors) {
  std::vector<Section> sections;
  for (const auto& [name, shape, bits, group_size, dtype] : tensors) {
    Section s;
    s.name = name;
    s.shape = shape;
    s.is_linear = bits > 0;
    s.linear = {nullptr, 0, 0, bits, group_size, 16};
    s.dtype = dtype;
    check_section(s);
    sections.push_back(std::move(s));
  }
  const PackedLayout layout = lay_out(sections, 0, 0, 0);
  Mapping memory = Mapping::private_memory(layout.file_bytes);
  for (const Section& s : sections) {
    if (!s.is_linear && s.dtype == "F32") std::fill_n(reinterpret_cast<float*>(memory.data() + s.offset), s.bytes / sizeof(float), 0.01f);
  }
  return std::make_shared<WeightStore>(std::move(memory), std::move(sections), "{}");
}

py::dict program_info(const Program& program) {
  py::list buffers, ops, sections;
  for (const Buffer& b : program.buffers) {
    py::dict d;
    d["name"] = b.name;
    d["bytes"] = b.bytes();
    d["bound"] = b.space == Space::kBound;
    buffers.append(d);
  }
  for (const Op& op : program.ops) {
    py::dict d;
    d["kind"] = int(op.kind);
    d["in"] = std::vector<int>(op.in.begin(), op.in.end());
    d["out"] = int(op.out);
    d["rows"] = op_rows(program, op).max_rows;
    ops.append(d);
  }
  for (const ProgramSection& s : program.sections) sections.append(py::make_tuple(s.first_op, s.op_count, s.repeat));
  py::dict out;
  out["buffers"] = buffers;
  out["ops"] = ops;
  out["sections"] = sections;
  return out;
}

py::list allocation_list(const Program& program, const py::dict& values) {
  static constexpr const char* kKinds[] = {"resident", "window", "scratch", "ring"};
  py::list out;
  for (const Allocation& a : allocations(program, plan_from(values, program))) {
    out.append(py::make_tuple(kKinds[static_cast<int>(a.kind)], a.index, a.offset, a.bytes, a.first_op, a.last_op));
  }
  return out;
}

// Where a step finds rows of a buffer in fast memory: (buffer, offset, bytes), nothing when it is not there.
void add_operand(const Program& program, const Plan& plan, const Step& step, const RunScalars& run, BufferId id, bool kv, RowRange rows,
                 py::list& out) {
  const Buffer& b = program.buffers[id];
  int64_t offset = 0, bytes = 0, first_row = 0;
  if (plan.buffers[id].home == Home::kResident) {
    offset = plan.buffers[id].offset;
    bytes = int64_t(b.bytes());
  }
  for (const Window& w : plan.windows) {
    if (w.group != step.group || w.buffer != id) continue;
    offset = w.offset;
    bytes = w.bytes;
    first_row = window_rows(program, plan, step.group, id, block_range(program, plan, step, run)).begin;
  }
  if (bytes == 0) return;
  if (!kv && b.dtype != DType::kQuantized) {  // rows one behind the other
    const int64_t row = rows_bytes(b, 1);
    offset += (rows.begin - first_row) * row;
    bytes = (rows.end - rows.begin) * row;
  }
  out.append(py::make_tuple(id, offset, bytes));
}

py::list transfer_list(const TransferList& list) {
  static constexpr const char* kSources[] = {"buffer", "weight", "keys", "values", "image"};
  py::list out;
  for (const Transfer& t : list) {
    out.append(py::make_tuple(kSources[static_cast<int>(t.source)], t.index, t.repetition, t.offset, t.bytes(), t.fast_offset));
  }
  return out;
}

// Every step in order, with the fast memory it reads and writes and its transfers.
py::list plan_steps(const Program& program, const py::dict& values, int32_t rows, int32_t position) {
  const Plan plan = plan_from(values, program);
  const RunScalars run{rows, position};
  py::list out;
  for (StepCursor cursor(program, plan, run); !cursor.done(); cursor.next()) {
    const Step& step = cursor.step();
    const Op& op = program.ops[step.op];
    const RowRange block = {step.row_begin, step.row_end};
    py::list reads, writes;
    for (int k = 0; k < 3; ++k) {
      if (op.in[k] == kNone || (!through_window(op, k) && !is_kv(op, k))) continue;
      add_operand(program, plan, step, run, op.in[k], is_kv(op, k), input_rows(program, op, k, block), reads);
    }
    if (op.out != kNone) add_operand(program, plan, step, run, op.out, is_kv(op, 3), block, writes);
    py::dict d;
    d["op"] = step.op;
    d["group"] = step.group;
    d["repetition"] = step.repetition;
    d["rows"] = py::make_tuple(step.row_begin, step.row_end);
    d["units"] = py::make_tuple(step.unit_begin, step.unit_end);
    d["keys"] = py::make_tuple(step.key_begin, step.key_end);
    d["first"] = step.first;
    d["last"] = step.last;
    d["reads"] = reads;
    d["writes"] = writes;
    d["loads"] = transfer_list(loads_before(program, plan, step, run));
    d["stores"] = transfer_list(stores_after(program, plan, step, run));
    d["streamed"] = transfer_list(streamed(program, plan, step));
    out.append(d);
  }
  return out;
}

py::dict totals(const PlanCost& cost) {
  py::dict d;
  d["seconds"] = cost.seconds;
  d["compute_s"] = cost.compute_s;
  d["transfer_s"] = cost.transfer_s;
  d["bytes_in"] = cost.bytes_in;
  d["bytes_out"] = cost.bytes_out;
  d["transfers"] = cost.transfers;
  return d;
}

// Totals of a simulation; `walk_all`: of every repetition, not extrapolated.
py::dict simulate_totals(const Program& program, const py::dict& plan, const py::dict& spec, bool walk_all) {
  std::vector<TraceEvent> events;
  const Plan p = plan_from(plan, program);
  const HardwareSpec machine = spec_from(spec);
  return totals(simulate(program, p, machine, largest_run(program), walk_all ? &events : nullptr));
}

}  // namespace

void bind_schedule(py::module_& m) {
  py::module_::import("hypervl_engine._core");  // WeightStore and Program are registered there
  m.def("hollow_weights", &hollow_weights, py::arg("tensors"));
  m.def("program_info", &program_info, py::arg("program"));
  m.def("allocations", &allocation_list, py::arg("program"), py::arg("plan"));
  m.def("plan_steps", &plan_steps, py::arg("program"), py::arg("plan"), py::arg("rows"), py::arg("position"));
  m.def("simulate", &simulate_totals, py::arg("program"), py::arg("plan"), py::arg("spec"), py::arg("walk_all") = false);
}

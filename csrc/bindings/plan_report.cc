// What a Plan does and should cost, op by op: the data behind the table, the trace and the picture of `hypervl-engine plan`.
#include <pybind11/stl.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/bindings/plan.h"
#include "csrc/schedule/access.h"
#include "csrc/schedule/steps.h"
#include "kernels/linear/linear.h"

namespace py = pybind11;
using namespace hvl;

namespace {

const char* kind_name(OpKind kind) {
  static constexpr const char* kNames[] = {"embed",    "norm",          "quantize",      "quantize_i16", "linear",        "activation",
                                           "silu_mul", "rope",          "kv_store",      "attention",    "pixel_shuffle", "patchify",
                                           "vrc_stem", "vrc_depthwise", "vrc_pointwise", "vrc_pool"};
  return kNames[static_cast<int>(kind)];
}

const char* dtype_name(DType dtype) {
  static constexpr const char* kNames[] = {"f32", "i32", "i16", "i8", "u8", "quantized", "kv"};
  return kNames[static_cast<int>(dtype)];
}

const char* home_name(Home home) {
  static constexpr const char* kNames[] = {"none", "resident", "ddr", "bound"};
  return kNames[static_cast<int>(home)];
}

const char* allocation_name(Allocation::Kind kind) {
  static constexpr const char* kNames[] = {"resident", "window", "scratch", "ring"};
  return kNames[static_cast<int>(kind)];
}

// "model.vision_tower.base.encoder.layers.0.self_attn.q_proj.weight" -> "self_attn.q_proj"; without a layer the last part. "weight 3" ->
// "layer 3".
std::string short_name(std::string name) {
  for (const char* end : {".weight", ".bias"}) {
    const std::string suffix = end;
    if (name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
      name.resize(name.size() - suffix.size());
  }
  if (name.rfind("weight ", 0) == 0) return "layer " + name.substr(7);  // of the resolution compressor
  const size_t layers = name.rfind("layers.");
  const size_t after = layers == std::string::npos ? std::string::npos : name.find('.', layers + 7);
  if (after != std::string::npos) return name.substr(after + 1);
  return name.substr(name.rfind('.') + 1);
}

class Names {
 public:
  explicit Names(const Program& program) : program_(program), buffers_(program.buffers.size()) {
    for (const Buffer& b : program.buffers) buffers_[&b - program.buffers.data()] = b.name;
    for (size_t o = 0; o < program.ops.size(); ++o) {
      // Recorded buffers are called after what made them ("linear"): here they take the name of the weights.
      const Op& op = program.ops[o];
      if (op.out == kNone || program.buffers[op.out].space != Space::kArena || op.out == op.in[0] || named_.count(op.out)) continue;
      if (op.kind == OpKind::kLinear || op.kind >= OpKind::kVrcStem) buffers_[op.out] = this->op(int32_t(o));
      if (op.kind == OpKind::kQuantize || op.kind == OpKind::kQuantizeI16) buffers_[op.out] = buffers_[op.in[0]] + ".q";
      named_.insert(op.out);
    }
  }
  const std::string& buffer(int32_t b) const { return buffers_[b]; }
  std::string op(int32_t o) const {
    const Op& op = program_.ops[o];
    if (op.weight[0] == kNone || op.kind == OpKind::kRope) return op.out == kNone ? kind_name(op.kind) : buffers_[op.out];
    const ProgramSection& s = section_of(program_, o);
    return short_name(program_.weights[s.first_weight + op.weight[0]]);
  }

 private:
  const Program& program_;
  std::vector<std::string> buffers_;
  std::set<int32_t> named_;
};

int32_t index_of(const Program& program, const ProgramSection& section) { return int32_t(&section - program.sections.data()); }

// Highest byte of fast memory in use during an op, from 0.
int64_t peak_during(const std::vector<Allocation>& memory, int32_t op) {
  int64_t peak = 0;
  for (const Allocation& a : memory) {
    if (op >= a.first_op && op <= a.last_op) peak = std::max(peak, a.offset + a.bytes);
  }
  return peak;
}

// What an op's time goes to: its own launches, its arithmetic, what its kernels read from DDR by themselves, or transfers.
const char* bound_by(const OpCost& cost, const OpCost& without_memory, const HardwareSpec& spec) {
  const double launch = double(cost.steps) * spec.launch_s;
  const double compute = without_memory.compute_s - launch,
               memory = cost.compute_s - without_memory.compute_s > 1e-12 ? cost.compute_s - launch : 0.0;
  if (cost.transfer_s > std::max({launch, compute, memory})) return "transfer";
  if (memory > std::max(launch, compute)) return "memory";
  return launch > compute ? "launch" : "compute";
}

// Sizes of the op as a loop nest, and of the blocks it is cut into. k is never cut: sums stay in registers over all of it.
void add_loops(py::dict& d, const Program& program, const Plan& plan, int32_t o, const RunScalars& run) {
  const Op& op = program.ops[o];
  const PlanOp& blocks = plan.ops[o];
  const OpRows rows = op_rows(program, op);
  const int32_t used = rows.dynamic ? std::min(run.rows, rows.max_rows) : rows.max_rows;
  int32_t n = op.out == kNone ? program.buffers[op.in[0]].cols : program.buffers[op.out].cols, block_n = n, k = 0;
  if (op.kind == OpKind::kLinear) {
    k = program.buffers[op.in[0]].cols;
    if (blocks.block_units > 0) block_n = std::min(n, blocks.block_units * kLinearRowBlock);
  } else if (op.kind == OpKind::kAttention) {
    k = op.state == kNone ? used : run.position + used;  // keys
    if (blocks.block_units > 0) block_n = std::min(n, blocks.block_units * (n / op.i[2]));
  }
  d["rows"] = used;
  d["block_rows"] = std::min(used, plan.groups[group_of(plan, o)].block_rows);
  d["n"] = n;
  d["block_n"] = block_n;
  d["k"] = k;
  d["block_k"] = k;
  d["block_keys"] = blocks.block_keys;
}

py::list sections(const Program& program) {
  py::list out;
  for (const ProgramSection& s : program.sections) {
    py::dict d;
    d["name"] = s.name;
    d["repeat"] = s.repeat;
    d["first_op"] = s.first_op;
    d["op_count"] = s.op_count;
    out.append(d);
  }
  return out;
}

py::list groups(const Program& program, const Plan& plan, const RunScalars& run) {
  py::list out;
  for (const PlanGroup& g : plan.groups) {
    const OpRows rows = op_rows(program, program.ops[g.first_op]);
    const int32_t used = rows.dynamic ? std::min(run.rows, rows.max_rows) : rows.max_rows;
    py::dict d;
    d["section"] = g.section;
    d["first_op"] = g.first_op;
    d["op_count"] = g.op_count;
    d["block_rows"] = g.block_rows;
    d["blocks"] = g.block_rows > 0 ? (used + g.block_rows - 1) / g.block_rows : 1;
    out.append(d);
  }
  return out;
}

py::list buffers(const Program& program, const Plan& plan, const Names& names) {
  py::list out;
  for (size_t b = 0; b < program.buffers.size(); ++b) {
    const Buffer& buffer = program.buffers[b];
    py::dict d;
    d["name"] = names.buffer(int32_t(b));
    d["rows"] = buffer.max_rows;
    d["cols"] = buffer.cols;
    d["dtype"] = dtype_name(buffer.dtype);
    d["bytes"] = buffer.bytes();
    d["home"] = home_name(plan.buffers[b].home);
    d["offset"] = plan.buffers[b].offset;
    out.append(d);
  }
  return out;
}

py::list memory_list(const std::vector<Allocation>& memory, const Plan& plan, const Names& names) {
  py::list out;
  for (const Allocation& a : memory) {
    py::dict d;
    switch (a.kind) {
      case Allocation::Kind::kResident:
        d["name"] = names.buffer(a.index);
        break;
      case Allocation::Kind::kWindow:
        d["name"] = names.buffer(plan.windows[a.index].buffer);
        break;
      case Allocation::Kind::kScratch:
        d["name"] = names.op(a.index) + " scratch";
        break;
      case Allocation::Kind::kRing:
        d["name"] = "ring";
        break;
    }
    d["kind"] = allocation_name(a.kind);
    d["offset"] = a.offset;
    d["bytes"] = a.bytes;
    d["first_op"] = a.first_op;
    d["last_op"] = a.last_op;
    out.append(d);
  }
  return out;
}

py::list ops(const Program& program, const Plan& plan, const HardwareSpec& spec, const RunScalars& run, const PlanCost& cost,
             const std::vector<Allocation>& memory, const Names& names) {
  HardwareSpec no_memory = spec;
  no_memory.ddr_bytes_per_s = 1e30;
  const PlanCost without_memory = simulate(program, plan, no_memory, run);
  py::list out;
  for (size_t o = 0; o < program.ops.size(); ++o) {
    const OpCost& c = cost.ops[o];
    py::dict d;
    d["index"] = o;
    d["kind"] = kind_name(program.ops[o].kind);
    d["name"] = names.op(int32_t(o));
    d["section"] = index_of(program, section_of(program, int32_t(o)));
    d["group"] = group_of(plan, int32_t(o));
    add_loops(d, program, plan, int32_t(o), run);
    d["steps"] = c.steps;
    d["bytes_in"] = c.bytes_in;
    d["bytes_out"] = c.bytes_out;
    d["transfers"] = c.transfers;
    d["compute_ms"] = c.compute_s * 1e3;
    d["transfer_ms"] = c.transfer_s * 1e3;
    d["ms"] = c.seconds * 1e3;
    d["bound"] = bound_by(c, without_memory.ops[o], spec);
    d["peak_bytes"] = peak_during(memory, int32_t(o));
    out.append(d);
  }
  return out;
}

}  // namespace

py::list event_list(const Program& program, const std::vector<TraceEvent>& events) {
  const Names names(program);
  py::list out;
  for (const TraceEvent& e : events) {
    py::dict d;
    d["track"] = e.transfer ? "transfer" : "compute";
    d["store"] = e.store;
    d["op"] = e.step.op;
    d["kind"] = kind_name(program.ops[e.step.op].kind);
    d["name"] = names.op(e.step.op);
    d["section"] = program.sections[e.step.section].name;
    d["repetition"] = e.step.repetition;
    d["block"] = e.step.block;
    d["rows"] = py::make_tuple(e.step.row_begin, e.step.row_end);
    d["units"] = py::make_tuple(e.step.unit_begin, e.step.unit_end);
    d["keys"] = py::make_tuple(e.step.key_begin, e.step.key_end);
    d["start_us"] = e.start_s * 1e6;
    d["duration_us"] = e.duration_s * 1e6;
    d["bytes"] = e.bytes;
    d["transfers"] = e.items;
    out.append(d);
  }
  return out;
}

py::list op_counts(const Program& program, const std::vector<OpCounts>& counts) {
  const Names names(program);
  py::list out;
  for (size_t o = 0; o < counts.size(); ++o) {
    py::dict d;
    d["kind"] = kind_name(program.ops[o].kind);
    d["name"] = names.op(int32_t(o));
    d["steps"] = counts[o].steps;
    d["packets"] = counts[o].packets;
    d["hvx_instructions"] = counts[o].hvx_instructions;
    out.append(d);
  }
  return out;
}

py::dict describe_plan(const Program& program, const py::dict& plan_values, const py::dict& spec_values, std::optional<int32_t> rows,
                       std::optional<int32_t> position, int32_t repetitions) {
  const Plan plan = plan_from(plan_values, program);
  const HardwareSpec spec = spec_from(spec_values);
  if (spec.name != plan.spec || spec.staged != plan.staged) {
    fail(ErrorKind::kValue, "the plan is for ", plan.spec, ", the figures are those of ", spec.name);
  }
  const RunScalars most = largest_run(program);
  const RunScalars run{rows.value_or(most.rows), position.value_or(rows ? std::max(0, most.position + most.rows - *rows) : most.position)};
  if (run.rows < 0 || run.rows > most.rows || run.position < 0 || run.position + run.rows > most.position + most.rows) {
    fail(ErrorKind::kValue, "rows and position must lie in 0 .. ", most.rows, " and 0 .. ", most.position + most.rows - run.rows, ", got ",
         run.rows, " and ", run.position);
  }
  std::vector<TraceEvent> events;
  const PlanCost cost = simulate(program, plan, spec, run, repetitions > 0 ? &events : nullptr, repetitions);
  const std::vector<Allocation> memory = allocations(program, plan);
  const Names names(program);

  py::dict d;
  d["name"] = program.name;
  d["program_hash"] = hex16(program_hash(program));
  d["plan_hash"] = hex16(plan_hash(plan));
  d["spec"] = plan.spec;
  d["staged"] = plan.staged;
  d["contexts"] = plan.contexts;
  d["budget"] = plan.budget;
  d["peak_bytes"] = plan.peak_bytes;
  d["ddr_bytes"] = plan.ddr_bytes;
  d["ring_slot_bytes"] = plan.ring_slot_bytes;
  d["rows"] = run.rows;
  d["position"] = run.position;
  d["sections"] = sections(program);
  d["groups"] = groups(program, plan, run);
  d["ops"] = ops(program, plan, spec, run, cost, memory, names);
  d["buffers"] = buffers(program, plan, names);
  d["allocations"] = memory_list(memory, plan, names);
  d["predicted_ms"] = cost.seconds * 1e3;
  d["compute_ms"] = cost.compute_s * 1e3;
  d["transfer_ms"] = cost.transfer_s * 1e3;
  d["bytes_in"] = cost.bytes_in;
  d["bytes_out"] = cost.bytes_out;
  d["transfers"] = cost.transfers;
  if (repetitions > 0) d["events"] = event_list(program, events);
  return d;
}

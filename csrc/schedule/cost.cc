#include "csrc/schedule/cost.h"

#include <algorithm>

#include "csrc/schedule/access.h"
#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/vrc/vrc.h"

namespace hvl {
namespace {

// What a kernel step has to do: cycles of one context for the whole of it, and the units (kernels/) that contexts may share.
struct Work {
  double cycles = 0;
  int64_t units = 1;
};

// The maximum of a group and its inverse cost as much as this many elements.
constexpr double kQuantizeGroup = 100;

// A step of one unit is not handed to other contexts: of launch_s it takes this share.
constexpr double kAlone = 0.1;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double linear_cycles(const HardwareSpec& spec, const WeightShape& w, bool a16, double outputs, double rows) {
  const double weights = outputs * w.cols, groups = double(ceil_div(w.cols, w.group_size));
  const double macs = w.bits == 4 ? (a16 ? spec.macs_w4a16 : spec.macs_w4a8) : (a16 ? spec.macs_w8a16 : spec.macs_w8a8);
  const double tiles = double(ceil_div(int64_t(rows), int64_t(a16 ? spec.token_tile_a16 : spec.token_tile_a8)));
  return weights * tiles / (w.bits == 4 ? spec.unpack_w4 : spec.unpack_w8) + weights * rows / macs + outputs * rows * groups / spec.scales;
}

// Cycles of a VRC convolution with `taps` weights an output.
double vrc_cycles(const HardwareSpec& spec, double outputs, double taps, double macs) {
  return outputs * (taps / macs + 1 / spec.requant_vrc);
}

// (row, key) pairs that an attention step computes. The last keys of a causal block are seen by its last row only; kernels work on blocks
// of rows and keys, so that a row computes about kMaskedKeys more than it sees (however its `whole_rows` are cut: cutting them must not
// look like a gain).
constexpr double kMaskedKeys = 32;
double visible_pairs(const Op& op, const PlanOp& plan, const Step& step, int32_t whole_rows) {
  const double rows = step.row_end - step.row_begin, keys = step.key_end - step.key_begin;
  const bool last_keys = plan.block_keys == 0 || step.key_end % plan.block_keys != 0;
  if (op.i[1] == 0 || !last_keys) return rows * keys;
  const double hidden = keys >= rows ? rows * (rows - 1) / 2 : keys * (keys - 1) / 2 + (rows - keys) * keys;
  return rows * (keys + std::min(kMaskedKeys, 2.0 * whole_rows)) - hidden;
}

Work step_work(const Program& program, const Plan& plan, const HardwareSpec& spec, const Step& step) {
  const Op& op = program.ops[step.op];
  const int64_t rows = step.row_end - step.row_begin;
  const auto elements = [&](double rate) { return Work{double(rows) * program.buffers[op.out].cols / rate, rows}; };
  switch (op.kind) {
    case OpKind::kLinear: {
      const int64_t units = step.unit_end - step.unit_begin;
      const WeightShape& w = program.shape(program.sections[step.section], step.repetition, op.weight[0]);
      return {linear_cycles(spec, w, program.buffers[op.in[0]].bits == 16, double(units) * kLinearRowBlock, double(rows)), units};
    }
    case OpKind::kAttention: {
      const Buffer& q = program.buffers[op.in[0]];
      const double heads = double(op.i[0]) / op.i[2] * (step.unit_end - step.unit_begin), head_dim = double(q.cols) / op.i[0];
      const double pairs = visible_pairs(op, plan.ops[step.op], step, q.max_rows) * heads;
      const int32_t kv_bits = op.state != kNone ? program.states[op.state].bits : program.buffers[op.in[1]].bits;
      const double macs = kv_bits == 8 && op.i[3] == 8 ? spec.macs_attention_a8 : spec.macs_attention_a16;
      return {pairs * (2 * head_dim / macs + 1 / spec.exps_attention), attention_units(int32_t(rows), int32_t(heads))};
    }
    case OpKind::kNorm:
      return elements(op.i[0] == int32_t(NormKind::kLayer) ? spec.norm / 1.5 : spec.norm);
    case OpKind::kQuantize:
    case OpKind::kQuantizeI16: {
      const Buffer& out = program.buffers[op.out];
      return {double(rows) * (out.cols + double(ceil_div(out.cols, out.group_size)) * kQuantizeGroup) / spec.quantize, rows};
    }
    case OpKind::kActivation:
      return elements(spec.activation);
    case OpKind::kSiluMul:
      return elements(spec.silu_mul);
    case OpKind::kRope:
      return elements(spec.rope);
    case OpKind::kEmbed:
      return elements(spec.embed);
    case OpKind::kPixelShuffle:
      return elements(spec.copy);
    case OpKind::kPatchify:
      return {elements(spec.patchify).cycles, ceil_div(rows, op.i[1])};
    case OpKind::kKvStore:
      // It also clears what follows the last key in a block of 16: half a block on average.
      return {2.0 * (double(rows) + (op.state != kNone ? kKvKeyBlock / 2 : 0)) * program.buffers[op.in[0]].cols / spec.kv_store, op.i[0]};
    case OpKind::kVrcStem:
      return {vrc_cycles(spec, double(rows) * op.i[4], 36, spec.macs_vrc), ceil_div(rows, op.i[3])};
    case OpKind::kVrcDepthwise:
      return {vrc_cycles(spec, double(rows) * op.i[4], 9, spec.macs_vrc_depthwise), ceil_div(rows, op.i[3])};
    case OpKind::kVrcPointwise:
      return {vrc_cycles(spec, double(rows) * op.i[3], 4.0 * op.i[2], spec.macs_vrc), ceil_div(rows, kVrcPixelBlock)};
    case OpKind::kVrcPool:
      return {double(op.i[0]) * op.i[1] / spec.macs_vrc_depthwise, ceil_div(op.i[1], kVrcLanes)};
  }
  return {};
}

// Bytes the kernel itself moves from and to DDR, where it works in place: operands without a place in fast memory or a cache, K/V, weights.
double ddr_bytes(const Program& program, const Plan& plan, const Cached& in_cache, const Step& step) {
  const Op& op = program.ops[step.op];
  const int32_t rows = step.row_end - step.row_begin;
  if (in_cache.all) return 0;
  const auto in_ddr = [&](BufferId id) {
    return !in_cache.buffers && (plan.buffers[id].home == Home::kDdr || plan.buffers[id].home == Home::kBound);
  };
  const auto row_bytes = [&](BufferId id) { return bytes_a_row(program.buffers[id]); };
  double bytes = 0;
  for (int k = 0; k < 3; ++k) {
    const BufferId id = op.in[k];
    if (id == kNone || !in_ddr(id)) continue;
    if (is_kv(op, k)) {
      bytes += (step.key_end - step.key_begin) * row_bytes(id) * (step.unit_end - step.unit_begin) / op.i[2];
    } else if (op.kind == OpKind::kPatchify) {
      bytes += k == 0 ? double(rows) * op.i[2] * op.i[2] * 3 : row_bytes(id) * program.buffers[id].max_rows;
    } else {
      const RowRange r = input_rows(program, op, k, {step.row_begin, step.row_end});
      bytes += double(r.end - r.begin) * row_bytes(id);
    }
  }
  if (op.out != kNone && in_ddr(op.out)) bytes += double(rows) * row_bytes(op.out);
  if (op.state != kNone) {
    const StateShape& s = program.states[op.state];
    const int32_t heads = op.kind == OpKind::kAttention ? step.unit_end - step.unit_begin : s.kv_heads;
    const int32_t keys = op.kind == OpKind::kAttention ? step.key_end - step.key_begin : rows;
    bytes += 2.0 * double(kv_side_bytes(heads, s.head_dim, keys, s.bits));
  }
  const ProgramSection& section = program.sections[step.section];
  for (int slot = 0; slot < 4; ++slot) {
    if (op.weight[slot] == kNone) continue;
    const WeightShape& w = program.shape(section, step.repetition, op.weight[slot]);
    if (op.kind == OpKind::kEmbed) {
      bytes += double(rows) * w.cols * w.bits / 8;
    } else if (op.kind == OpKind::kLinear && slot == 0) {
      const LinearWeight packed{nullptr, w.rows, w.cols, w.bits, w.group_size, w.scale_bits, w.zero_points};
      bytes += double(step.unit_end - step.unit_begin) * double(linear_block_bytes(packed));
    } else if (op.kind == OpKind::kLinear && slot == 2) {
      bytes += double(rows) * row_bytes(op.out);
    } else {
      bytes += double(w.bytes);
    }
  }
  return bytes;
}

// The transfer engine: lists of transfers one after another, in the order they were asked for.
struct Engine {
  const HardwareSpec& spec;
  double free_s = 0;

  // Returns when the list has landed.
  double run(double asked_s, int64_t bytes, int32_t items, double* duration_s) {
    *duration_s = list_seconds(spec, bytes, items);
    free_s = std::max(free_s, asked_s) + *duration_s;
    return free_s;
  }
};

struct ListSize {
  int64_t bytes = 0;
  int32_t items = 0;
};
ListSize size_of(const TransferList& list) {
  ListSize size;
  for (const Transfer& t : list) size.bytes += t.bytes();
  size.items = list.count;
  return size;
}

class Simulation {
 public:
  Simulation(const Program& program, const Plan& plan, const HardwareSpec& spec, const RunScalars& run, std::vector<TraceEvent>* events,
             int32_t max_repetitions)
      : program_(program),
        plan_(plan),
        spec_(spec),
        cached_(cached(program, plan, spec)),
        run_(run),
        events_(events),
        max_repetitions_(max_repetitions),
        engine_{spec} {
    cost_.ops.resize(program.ops.size());
  }

  // `repeats`: of each section in truth; program_ has fewer of them, and those left out are taken to be like the last but one.
  PlanCost run(const std::vector<int32_t>& repeats) {
    StepCursor cursor(program_, plan_, run_), ahead(program_, plan_, run_);
    find_stream(ahead);
    int32_t section = -1, repetition = -1;
    for (; !cursor.done(); cursor.next(), ++index_) {
      const Step& step = cursor.step();
      if (step.section != section || step.repetition != repetition) {
        if (step.section != section && section >= 0) extrapolate(section, repeats[section]);
        section = step.section;
        repetition = step.repetition;
        if (repetition == 1) before_ = snapshot();
        if (repetition == 2) after_ = snapshot();
      }
      walk(step, ahead);
    }
    if (section >= 0) extrapolate(section, repeats[section]);
    for (const OpCost& op : cost_.ops) {
      cost_.compute_s += op.compute_s;
      cost_.transfer_s += op.transfer_s;
      cost_.bytes_in += op.bytes_in;
      cost_.bytes_out += op.bytes_out;
      cost_.transfers += op.transfers;
    }
    cost_.seconds = now_;
    return std::move(cost_);
  }

 private:
  // The next streaming step: `ahead` stands on it.
  struct Stream {
    bool valid = false, asked = false, may_prefetch = false, both = false;
    int64_t index = 0;
    ListSize size;
    double ready_s = 0;
  };
  struct Snapshot {
    double now_s = 0;
    std::vector<OpCost> ops;
  };

  Snapshot snapshot() const { return {now_, cost_.ops}; }

  void find_stream(StepCursor& ahead) {
    stream_ = {};
    if (!plan_.staged) return;
    for (; !ahead.done(); ahead.next(), ++ahead_index_) {
      const TransferList list = streamed(program_, plan_, ahead.step());
      if (list.count == 0) continue;
      const Transfer& last = list.items[list.count - 1];
      const bool both = last.fast_offset + last.bytes() > plan_.ring_slot_bytes;
      stream_ = {true, false, may_prefetch(program_, ahead.step()), both, ahead_index_, size_of(list), 0};
      return;
    }
  }

  double transfer(const Step& step, const ListSize& size, double asked_s, bool store) {
    double duration_s = 0;
    const double landed_s = engine_.run(asked_s, size.bytes, size.items, &duration_s);
    OpCost& op = cost_.ops[step.op];
    op.transfer_s += duration_s;
    op.transfers += size.items;
    (store ? op.bytes_out : op.bytes_in) += size.bytes;
    if (events_ && step.repetition < max_repetitions_) {
      events_->push_back({true, store, step, landed_s - duration_s, duration_s, size.bytes, size.items});
    }
    return landed_s;
  }

  void walk(const Step& step, StepCursor& ahead) {
    const double begun_s = now_;
    if (plan_.staged) {
      if (const ListSize loads = size_of(loads_before(program_, plan_, step, run_)); loads.items > 0) now_ = transfer(step, loads, now_, false);
    }
    if (stream_.valid && stream_.index == index_) {
      now_ = std::max(now_, stream_.asked ? stream_.ready_s : transfer(step, stream_.size, now_, false));
      const bool both = stream_.both;
      ahead.next();
      ++ahead_index_;
      find_stream(ahead);
      // Fetched while this step runs, when each of the two has a slot of its own.
      if (stream_.valid && stream_.may_prefetch && !stream_.both && !both) {
        stream_.asked = true;
        stream_.ready_s = transfer(ahead.step(), stream_.size, now_, false);
      }
    }
    const double seconds = step_seconds(program_, plan_, spec_, cached_, step);
    if (events_ && step.repetition < max_repetitions_) events_->push_back({false, false, step, now_, seconds, 0, 0});
    now_ += seconds;
    if (plan_.staged) {
      if (const ListSize stores = size_of(stores_after(program_, plan_, step, run_)); stores.items > 0) now_ = transfer(step, stores, now_, true);
    }
    OpCost& op = cost_.ops[step.op];
    op.compute_s += seconds;
    op.seconds += now_ - begun_s;
    ++op.steps;
  }

  void extrapolate(int32_t section, int32_t repeats) {
    const int32_t missing = repeats - program_.sections[section].repeat;
    if (missing <= 0) return;
    const double shift_s = missing * (after_.now_s - before_.now_s);
    now_ += shift_s;
    engine_.free_s += shift_s;
    stream_.ready_s += shift_s;
    const ProgramSection& s = program_.sections[section];
    for (int32_t o = s.first_op; o < s.first_op + s.op_count; ++o) {
      OpCost& op = cost_.ops[o];
      const OpCost &a = before_.ops[o], &b = after_.ops[o];
      op.seconds += missing * (b.seconds - a.seconds);
      op.compute_s += missing * (b.compute_s - a.compute_s);
      op.transfer_s += missing * (b.transfer_s - a.transfer_s);
      op.bytes_in += missing * (b.bytes_in - a.bytes_in);
      op.bytes_out += missing * (b.bytes_out - a.bytes_out);
      op.transfers += missing * (b.transfers - a.transfers);
      op.steps += missing * (b.steps - a.steps);
    }
  }

  const Program& program_;
  const Plan& plan_;
  const HardwareSpec& spec_;
  const Cached cached_;
  const RunScalars run_;
  std::vector<TraceEvent>* const events_;
  const int32_t max_repetitions_;
  Engine engine_;
  Stream stream_;
  Snapshot before_, after_;
  PlanCost cost_;
  double now_ = 0;
  int64_t index_ = 0, ahead_index_ = 0;
};

}  // namespace

Cached cached(const Program& program, const Plan& plan, const HardwareSpec& spec) {
  if (spec.cache_bytes <= 0) return {};
  double bytes = double(plan.peak_bytes + plan.ddr_bytes);
  for (const Buffer& b : program.buffers) {
    if (b.space == Space::kBound) bytes += double(b.bytes());
  }
  const bool buffers = bytes <= spec.cache_bytes;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kKvStore || op.state == kNone) continue;
    const StateShape& s = program.states[op.state];
    bytes += 2.0 * double(kv_side_bytes(s.kv_heads, s.head_dim, s.capacity, s.bits)) * section_of(program, int32_t(&op - program.ops.data())).repeat;
  }
  for (size_t i = 0; i < program.shapes.size() && bytes <= spec.cache_bytes; ++i) bytes += double(program.shapes[i].bytes);
  return {buffers, bytes <= spec.cache_bytes};
}

double list_seconds(const HardwareSpec& spec, int64_t bytes, int32_t items) {
  return items * spec.transfer_latency_s + double(bytes) / spec.transfer_bytes_per_s;
}

double step_seconds(const Program& program, const Plan& plan, const HardwareSpec& spec, const Cached& in_cache, const Step& step) {
  const Work work = step_work(program, plan, spec, step);
  // Contexts take whole units: the last round may leave some of them idle.
  const double rounds = double(ceil_div(work.units, int64_t(spec.contexts)));
  double seconds = work.cycles * rounds / double(work.units) / spec.clock_hz;
  if (!plan.staged) seconds = std::max(seconds, ddr_bytes(program, plan, in_cache, step) / spec.ddr_bytes_per_s);
  return seconds + (work.units > 1 || spec.contexts <= 1 ? 1.0 : kAlone) * spec.launch_s;
}

PlanCost simulate(const Program& program, const Plan& plan, const HardwareSpec& spec, const RunScalars& run,
                  std::vector<TraceEvent>* events, int32_t max_repetitions) {
  // The third repetition of a section starts as the second did, with its first block already on the way: the rest are alike.
  constexpr int32_t kWalked = 3;
  const int32_t limit = events ? std::max(kWalked, max_repetitions) : kWalked;
  std::vector<int32_t> repeats;
  Program walked = program;
  for (ProgramSection& s : walked.sections) {
    repeats.push_back(s.repeat);
    s.repeat = std::min(s.repeat, limit);
  }
  return Simulation(walked, plan, spec, run, events, max_repetitions).run(repeats);
}

}  // namespace hvl

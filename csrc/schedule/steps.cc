#include "csrc/schedule/steps.h"

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/schedule/access.h"
#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"

namespace hvl {
namespace {

int32_t run_rows(const OpRows& rows, const RunScalars& run) { return rows.dynamic ? run.rows : rows.max_rows; }

// Packed bytes of one block of 32 outputs.
int64_t block_bytes(const WeightShape& w) {
  return int64_t(linear_block_bytes({nullptr, w.rows, w.cols, w.bits, w.group_size, w.scale_bits, w.zero_points}));
}

// K/V that an attention or kv_store works on: a state, or a buffer of keys, then values.
struct KvShape {
  int32_t heads, head_dim, capacity, bits;
  int64_t bytes(int32_t of_heads, int32_t positions) const { return kv_side_bytes(of_heads, head_dim, positions, bits); }
};
KvShape kv_shape(const Program& program, const Op& op) {
  if (op.state != kNone) {
    const StateShape& s = program.states[op.state];
    return {s.kv_heads, s.head_dim, s.capacity, s.bits};
  }
  const bool attention = op.kind == OpKind::kAttention;
  const Buffer& b = program.buffers[attention ? op.in[1] : op.out];
  const int32_t heads = attention ? op.i[2] : op.i[0];
  return {heads, b.group_size, b.max_rows, b.bits};
}

// K or V of some heads and whole blocks of positions: a run for each head.
Transfer kv_transfer(const Op& op, const KvShape& kv, int32_t buffer, int32_t repetition, bool values, int32_t head, int32_t heads,
                     int32_t position, int32_t positions, int64_t fast_offset) {
  Transfer t;
  t.repetition = repetition;
  t.offset = kv.bytes(head, kv.capacity) + kv.bytes(1, position);
  if (op.state != kNone) {
    t.source = values ? Transfer::Source::kValues : Transfer::Source::kKeys;
    t.index = op.state;
  } else {
    t.index = buffer;
    if (values) t.offset += kv.bytes(kv.heads, kv.capacity);
  }
  t.stride = kv.bytes(1, kv.capacity);
  t.rows = heads;
  t.row_bytes = kv.bytes(1, positions);
  t.fast_offset = fast_offset;
  t.fast_stride = t.row_bytes;
  return t;
}

// The ops of a group that use a buffer through its window, by their first and last read and write.
struct WindowUse {
  int32_t first = -1, first_write = -1, last_write = -1;
  bool read_first = false;
  RowRange rows = {0, 0};  // all that the group's ops touch for a block
};
WindowUse window_use(const Program& program, const Plan& plan, int32_t group, BufferId buffer, RowRange block) {
  WindowUse use;
  const PlanGroup& g = plan.groups[group];
  const auto touch = [&](int32_t o, RowRange rows, bool read) {
    if (use.first < 0) {
      use.first = o;
      use.rows = rows;
    }
    if (use.first == o && read) use.read_first = true;
    use.rows = {std::min(use.rows.begin, rows.begin), std::max(use.rows.end, rows.end)};
  };
  for (int32_t o = g.first_op; o < g.first_op + g.op_count; ++o) {
    const Op& op = program.ops[o];
    for (int k = 0; k < 3; ++k) {
      if (op.in[k] == buffer && through_window(op, k)) touch(o, input_rows(program, op, k, block), true);
    }
    if (op.out == buffer) {
      touch(o, block, reads_output(op));
      if (use.first_write < 0) use.first_write = o;
      use.last_write = o;
    }
  }
  return use;
}

void add_window(const Program& program, const Window& window, int32_t op_index, RowRange rows, bool store, TransferList& list) {
  const Buffer& b = program.buffers[window.buffer];
  const Op& op = program.ops[op_index];
  if (store && is_kv(op, 3)) {
    const KvShape kv = kv_shape(program, op);
    const int32_t positions = kv_padded_keys(rows.end - rows.begin);
    for (const bool values : {false, true}) {
      Transfer t = kv_transfer(op, kv, window.buffer, 0, values, 0, kv.heads, rows.begin, positions, window.offset);
      if (values) t.fast_offset += t.bytes();
      t.store = true;
      list.add(t);
    }
    return;
  }
  const int64_t row = rows_bytes(b, 1);
  Transfer t;
  t.store = store;
  t.index = window.buffer;
  t.offset = rows.begin * row;
  t.row_bytes = (rows.end - rows.begin) * row;
  t.fast_offset = window.offset;
  list.add(t);
}

// Transfers of an op's scratch: before it runs, and (K/V of a state) after it.
void add_scratch(const Program& program, const Plan& plan, const Step& step, const RunScalars& run, bool store, TransferList& list) {
  const Op& op = program.ops[step.op];
  const int64_t base = plan.ops[step.op].scratch_offset;
  const RowRange block = block_range(program, plan, step, run);
  const int32_t rows = block.end - block.begin;
  if (op.kind == OpKind::kKvStore && op.state != kNone) {
    const KvShape kv = kv_shape(program, op);
    const int32_t from = (run.position + block.begin) / kKvKeyBlock * kKvKeyBlock, to = kv_padded_keys(run.position + block.end);
    for (const bool values : {false, true}) {
      Transfer t = kv_transfer(op, kv, kNone, step.repetition, values, 0, kv.heads, from, to - from, base);
      if (values) t.fast_offset += plan_aligned(t.bytes());
      t.store = store;
      list.add(t);
    }
    return;
  }
  if (store) return;
  if (op.kind == OpKind::kRope) {
    int64_t at = base;
    for (int k = 1; k <= 2; ++k) {
      Transfer t;
      t.index = op.in[k];
      const int64_t row = rows_bytes(program.buffers[op.in[k]], 1);
      t.offset = (run.position + block.begin) * row;
      t.row_bytes = rows * row;
      t.fast_offset = at;
      at += plan_aligned(t.row_bytes);
      list.add(t);
    }
  } else if (op.kind == OpKind::kPatchify) {
    Transfer table;
    table.index = op.in[1];
    table.row_bytes = rows_bytes(program.buffers[op.in[1]], program.buffers[op.in[1]].max_rows);
    table.fast_offset = base;
    list.add(table);
    Transfer image;
    image.source = Transfer::Source::kImage;
    image.index = op.in[0];
    image.rows = int64_t(rows / op.i[1]) * op.i[2];
    image.row_bytes = int64_t(op.i[1]) * op.i[2] * 3;
    image.fast_offset = base + plan_aligned(table.row_bytes);
    image.fast_stride = image.row_bytes;
    list.add(image);
  } else if (op.kind == OpKind::kLinear && op.weight[2] != kNone) {
    Transfer t;
    t.source = Transfer::Source::kWeight;
    t.index = op.weight[2];
    t.repetition = step.repetition;
    const int64_t row = int64_t(program.buffers[op.out].cols) * int64_t(sizeof(float));
    t.offset = block.begin * row;
    t.row_bytes = rows * row;
    t.fast_offset = base;
    list.add(t);
  }
}

}  // namespace

RunScalars largest_run(const Program& program) {
  RunScalars run;
  for (const Buffer& b : program.buffers) {
    if (b.dynamic_rows) run.rows = std::max(run.rows, b.max_rows);
  }
  for (const StateShape& s : program.states) {
    run.rows = std::min(run.rows, s.capacity);
    run.position = s.capacity - run.rows;
  }
  return run;
}

RowRange block_range(const Program& program, const Plan& plan, const Step& step, const RunScalars& run) {
  const PlanGroup& group = plan.groups[step.group];
  const int32_t rows = run_rows(op_rows(program, program.ops[step.op]), run);
  const int32_t begin = step.block * group.block_rows;
  return {begin, std::min(rows, begin + group.block_rows)};
}

int32_t key_limit(const Program& program, const Step& step, const RunScalars& run) {
  const Op& op = program.ops[step.op];
  if (op.i[1]) return run.position + step.row_end;  // causal
  return (op.state == kNone ? 0 : run.position) + run_rows(op_rows(program, op), run);
}

RowRange window_rows(const Program& program, const Plan& plan, int32_t group, BufferId buffer, RowRange block) {
  return window_use(program, plan, group, buffer, block).rows;
}

void TransferList::add(const Transfer& t) {
  if (count == kMax) fail(ErrorKind::kRuntime, "a step needs more than ", kMax, " transfers");
  items[count++] = t;
}

StepCursor::StepCursor(const Program& program, const Plan& plan, const RunScalars& run) : program_(&program), plan_(&plan), run_(run) {
  step_.section = plan.groups.empty() ? 0 : plan.groups[0].section;
  done_ = plan.groups.empty();
  if (done_) return;
  step_.op = plan.groups[0].first_op;
  enter();
}

// Starts the op of the current block: its rows, and the first of its inner steps.
void StepCursor::enter() {
  const Op& op = program_->ops[step_.op];
  const PlanOp& p = plan_->ops[step_.op];
  const RowRange rows = block_range(*program_, *plan_, step_, run_);
  step_.row_begin = rows.begin;
  step_.row_end = rows.end;
  step_.unit_begin = step_.key_begin = step_.key_end = 0;
  step_.unit_end = op_units(*program_, op);
  if (p.block_units > 0) step_.unit_end = std::min(step_.unit_end, p.block_units);
  if (op.kind == OpKind::kAttention) {
    step_.key_end = key_limit(*program_, step_, run_);
    if (p.block_keys > 0) step_.key_end = std::min(step_.key_end, p.block_keys);
  }
  if (op.kind == OpKind::kEmbed && plan_->staged) step_.row_end = step_.row_begin + 1;
  step_.first = true;
  step_.last = !has_inner();
}

bool StepCursor::has_inner() const {
  const Op& op = program_->ops[step_.op];
  if (op.kind == OpKind::kEmbed && plan_->staged) return step_.row_end < block_range(*program_, *plan_, step_, run_).end;
  if (op.kind == OpKind::kAttention && step_.key_end < key_limit(*program_, step_, run_)) return true;
  return step_.unit_end < op_units(*program_, op);
}

void StepCursor::next() {
  const Op& op = program_->ops[step_.op];
  const PlanOp& p = plan_->ops[step_.op];
  if (!step_.last) {
    step_.first = false;
    if (op.kind == OpKind::kEmbed && plan_->staged) {
      step_.row_begin = step_.row_end++;
    } else if (op.kind == OpKind::kAttention && step_.key_end < key_limit(*program_, step_, run_)) {
      step_.key_begin = step_.key_end;
      step_.key_end = std::min(key_limit(*program_, step_, run_), step_.key_begin + p.block_keys);
    } else {
      step_.unit_begin = step_.unit_end;
      step_.unit_end = std::min(op_units(*program_, op), step_.unit_begin + p.block_units);
      if (op.kind == OpKind::kAttention) {
        step_.key_begin = 0;
        step_.key_end = p.block_keys > 0 ? std::min(key_limit(*program_, step_, run_), p.block_keys) : key_limit(*program_, step_, run_);
      }
    }
    step_.last = !has_inner();
    return;
  }
  const PlanGroup& group = plan_->groups[step_.group];
  const auto group_count = int32_t(plan_->groups.size());
  if (step_.op + 1 < group.first_op + group.op_count) {
    ++step_.op;
  } else if ((step_.block + 1) * group.block_rows < run_rows(op_rows(*program_, op), run_)) {
    ++step_.block;
    step_.op = group.first_op;
  } else {
    step_.block = 0;
    if (step_.group + 1 < group_count && plan_->groups[step_.group + 1].section == step_.section) {
      ++step_.group;
    } else if (step_.repetition + 1 < program_->sections[step_.section].repeat) {
      ++step_.repetition;
      while (step_.group > 0 && plan_->groups[step_.group - 1].section == step_.section) --step_.group;
    } else if (step_.group + 1 < group_count) {
      ++step_.group;
      step_.repetition = 0;
      step_.section = plan_->groups[step_.group].section;
    } else {
      done_ = true;
      return;
    }
    step_.op = plan_->groups[step_.group].first_op;
  }
  enter();
}

TransferList loads_before(const Program& program, const Plan& plan, const Step& step, const RunScalars& run) {
  TransferList list;
  if (!plan.staged || !step.first) return list;
  const RowRange block = block_range(program, plan, step, run);
  for (const Window& w : plan.windows) {
    if (w.group != step.group || plan.buffers[w.buffer].home == Home::kNone) continue;
    const WindowUse use = window_use(program, plan, step.group, w.buffer, block);
    if (use.first == step.op && use.read_first) add_window(program, w, step.op, use.rows, false, list);
  }
  add_scratch(program, plan, step, run, false, list);
  return list;
}

TransferList stores_after(const Program& program, const Plan& plan, const Step& step, const RunScalars& run) {
  TransferList list;
  if (!plan.staged || !step.last) return list;
  const RowRange block = block_range(program, plan, step, run);
  for (const Window& w : plan.windows) {
    if (w.group != step.group || plan.buffers[w.buffer].home == Home::kNone) continue;
    if (window_use(program, plan, step.group, w.buffer, block).last_write == step.op) add_window(program, w, step.op, block, true, list);
  }
  add_scratch(program, plan, step, run, true, list);
  return list;
}

TransferList streamed(const Program& program, const Plan& plan, const Step& step) {
  TransferList list;
  if (!plan.staged) return list;
  const Op& op = program.ops[step.op];
  const ProgramSection& section = program.sections[step.section];
  int64_t at = 0;
  const auto add = [&](Transfer t) {
    t.repetition = step.repetition;
    t.fast_offset = at;
    at += plan_aligned(t.bytes());
    list.add(t);
  };
  const auto weight = [&](WeightId slot, int64_t offset, int64_t bytes) {
    Transfer t;
    t.source = Transfer::Source::kWeight;
    t.index = slot;
    t.offset = offset;
    t.row_bytes = bytes;
    add(t);
  };
  switch (op.kind) {
    case OpKind::kLinear: {
      const WeightShape& w = program.shape(section, step.repetition, op.weight[0]);
      weight(op.weight[0], step.unit_begin * block_bytes(w), (step.unit_end - step.unit_begin) * block_bytes(w));
      if (op.weight[1] != kNone) {
        const int64_t from = int64_t(step.unit_begin) * kLinearRowBlock;
        const int64_t to = std::min<int64_t>(w.rows, int64_t(step.unit_end) * kLinearRowBlock);
        weight(op.weight[1], from * 4, (to - from) * 4);
      }
      break;
    }
    case OpKind::kEmbed:
      weight(op.weight[0], 0, block_bytes(program.shape(section, step.repetition, op.weight[0])));
      break;
    case OpKind::kAttention: {
      if (op.state == kNone && plan.buffers[op.in[1]].home == Home::kResident) break;
      const KvShape kv = kv_shape(program, op);
      for (const bool values : {false, true}) {
        add(kv_transfer(op, kv, op.in[1], step.repetition, values, step.unit_begin, step.unit_end - step.unit_begin, step.key_begin,
                        kv_padded_keys(step.key_end - step.key_begin), 0));
      }
      break;
    }
    default:
      for (WeightId slot : op.weight) {
        if (slot != kNone) weight(slot, 0, int64_t(program.shape(section, step.repetition, slot).bytes));
      }
  }
  return list;
}

bool may_prefetch(const Program& program, const Step& step) { return program.ops[step.op].kind != OpKind::kAttention || !step.first; }

int64_t streamed_bytes(const Program& program, const Plan& plan, int32_t o) {
  if (!plan.staged) return 0;
  const Op& op = program.ops[o];
  const PlanOp& p = plan.ops[o];
  const ProgramSection& section = section_of(program, o);
  int64_t most = 0;
  if (op.kind == OpKind::kAttention) {
    if (op.state == kNone && plan.buffers[op.in[1]].home == Home::kResident) return 0;
    const KvShape kv = kv_shape(program, op);
    const int32_t heads = p.block_units > 0 ? std::min(p.block_units, kv.heads) : kv.heads;
    const int32_t keys = p.block_keys > 0 ? std::min(p.block_keys, kv.capacity) : kv.capacity;
    return 2 * plan_aligned(kv.bytes(heads, keys));
  }
  for (int32_t r = 0; r < section.repeat; ++r) {
    int64_t bytes = 0;
    for (WeightId slot : op.weight) {
      if (slot == kNone) continue;
      const WeightShape& w = program.shape(section, r, slot);
      if (op.kind == OpKind::kEmbed) {
        bytes += plan_aligned(block_bytes(w));
      } else if (op.kind == OpKind::kLinear) {
        const int64_t units = p.block_units > 0 ? std::min(p.block_units, op_units(program, op)) : op_units(program, op);
        if (slot == op.weight[0]) bytes += plan_aligned(units * block_bytes(w));
        if (slot == op.weight[1]) bytes += plan_aligned(units * kLinearRowBlock * 4);
      } else {
        bytes += plan_aligned(int64_t(w.bytes));
      }
    }
    most = std::max(most, bytes);
  }
  return most;
}

int64_t scratch_bytes(const Program& program, const Plan& plan, int32_t o) {
  const Op& op = program.ops[o];
  const int32_t rows = std::min(plan.groups[group_of(plan, o)].block_rows, op_rows(program, op).max_rows);
  if (op.kind == OpKind::kAttention) {
    const int64_t each = plan_aligned(attention_scratch_bytes(kv_shape(program, op).head_dim));
    const int64_t carried = plan.ops[o].block_keys > 0 ? plan_aligned(int64_t(rows) * op.i[0] * 2 * int64_t(sizeof(float))) : 0;
    return plan.contexts * each + carried;
  }
  if (!plan.staged) return 0;
  if (op.kind == OpKind::kRope) {
    return plan_aligned(rows * rows_bytes(program.buffers[op.in[1]], 1)) + plan_aligned(rows * rows_bytes(program.buffers[op.in[2]], 1));
  }
  if (op.kind == OpKind::kKvStore && op.state != kNone) {
    const KvShape kv = kv_shape(program, op);
    return 2 * plan_aligned(kv.bytes(kv.heads, std::min(kv_padded_keys(rows + kKvKeyBlock - 1), kv.capacity)));
  }
  if (op.kind == OpKind::kPatchify) {
    const Buffer& table = program.buffers[op.in[1]];
    return plan_aligned(rows_bytes(table, table.max_rows)) + plan_aligned(int64_t(rows / op.i[1]) * op.i[2] * op.i[1] * op.i[2] * 3);
  }
  if (op.kind == OpKind::kLinear && op.weight[2] != kNone) {
    return plan_aligned(int64_t(rows) * program.buffers[op.out].cols * int64_t(sizeof(float)));
  }
  return 0;
}

}  // namespace hvl

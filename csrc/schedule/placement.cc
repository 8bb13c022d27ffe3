#include "csrc/schedule/placement.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "csrc/schedule/steps.h"
#include "kernels/attention/attention.h"

namespace hvl {
namespace {

struct Span {
  int64_t begin, end;
};

// Gives each allocation, in the order of `order`, the lowest offset that is free during its whole life. Returns the highest end.
int64_t pack(std::span<Allocation> all, const std::vector<int32_t>& order, std::vector<Span>& taken) {
  int64_t peak = 0;
  for (size_t n = 0; n < order.size(); ++n) {
    Allocation& a = all[order[n]];
    taken.clear();
    for (size_t m = 0; m < n; ++m) {
      const Allocation& b = all[order[m]];
      if (a.first_op <= b.last_op && b.first_op <= a.last_op) taken.push_back({b.offset, plan_aligned(b.offset + b.bytes)});
    }
    std::sort(taken.begin(), taken.end(), [](const Span& x, const Span& y) { return x.begin < y.begin; });
    int64_t offset = 0;
    for (const Span& t : taken) {
      if (offset + a.bytes <= t.begin) break;
      offset = std::max(offset, t.end);
    }
    a.offset = offset;
    peak = std::max(peak, plan_aligned(offset + a.bytes));
  }
  return peak;
}

// Packs by the best of a few orders; what lives throughout (the ring) always comes first.
int64_t pack_best(std::vector<Allocation>& all) {
  const auto life = [&](int32_t i) { return int64_t(all[i].last_op - all[i].first_op + 1); };
  const auto later = [&](int32_t i) { return all[i].kind != Allocation::Kind::kRing; };
  std::vector<int32_t> order(all.size());
  std::vector<Span> taken;
  std::vector<Allocation> best;
  int64_t least = -1;
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      if (later(a) != later(b)) return later(a) < later(b);
      if (attempt == 0) return all[a].bytes > all[b].bytes;
      if (attempt == 1) return all[a].bytes * life(a) > all[b].bytes * life(b);
      return life(a) != life(b) ? life(a) > life(b) : all[a].bytes > all[b].bytes;
    });
    const int64_t peak = pack(all, order, taken);
    if (least < 0 || peak < least) {
      least = peak;
      best = all;
    }
  }
  all = std::move(best);
  return std::max<int64_t>(least, 0);
}

}  // namespace

int64_t smallest_stream(const Program& program, int32_t op) {
  Plan plan;
  plan.staged = true;
  plan.ops.resize(program.ops.size());
  plan.buffers.resize(program.buffers.size());
  const OpKind kind = program.ops[op].kind;
  if (kind == OpKind::kLinear || kind == OpKind::kAttention) plan.ops[op].block_units = 1;
  if (kind == OpKind::kAttention) plan.ops[op].block_keys = kAttentionChunk;
  return streamed_bytes(program, plan, op);
}

bool choose_blocks(const Program& program, const HardwareSpec& spec, int32_t o, bool streams_kv, int64_t slot_bytes, int64_t smallest,
                   PlanOp* block) {
  const Op& op = program.ops[o];
  *block = {};
  const int32_t units = op_units(program, op);
  if (!spec.staged) {
    if (op.kind == OpKind::kLinear) block->block_units = units;
    return true;
  }
  if (op.kind == OpKind::kAttention && !streams_kv) return true;
  if (smallest > 2 * slot_bytes) return false;
  if (op.kind == OpKind::kLinear) {
    const auto contexts = int32_t(spec.contexts);
    auto most = int32_t(std::clamp<int64_t>(slot_bytes / std::max<int64_t>(smallest, 1), 1, units));
    if (most > contexts && most < units) most -= most % contexts;  // every context gets as many units as the others
    const int32_t steps = (units + most - 1) / most, even = (units + steps - 1) / steps;
    block->block_units = std::min(most, (even + contexts - 1) / contexts * contexts);
  } else if (op.kind == OpKind::kAttention) {
    const int64_t chunks = std::max<int64_t>(slot_bytes / smallest, 1);  // of one head and kAttentionChunk keys
    const int32_t capacity = op.state != kNone ? program.states[op.state].capacity : program.buffers[op.in[1]].max_rows;
    block->block_units = int32_t(std::min<int64_t>(units, chunks));
    const int64_t all_keys = (capacity + kAttentionChunk - 1) / kAttentionChunk;
    block->block_keys = int32_t(std::min(all_keys, chunks / block->block_units)) * kAttentionChunk;
  }
  return true;
}

int64_t window_bytes(const Program& program, const PlanGroup& group, BufferId buffer) {
  const int32_t rows = op_rows(program, program.ops[group.first_op]).max_rows;
  int32_t most = 0;
  bool beyond = false;
  for (int32_t begin = 0; begin < rows; begin += group.block_rows) {
    const RowRange block = {begin, std::min(rows, begin + group.block_rows)};
    RowRange all = {INT32_MAX, 0};
    const auto touch = [&](RowRange r) { all = {std::min(all.begin, r.begin), std::max(all.end, r.end)}; };
    for (int32_t o = group.first_op; o < group.first_op + group.op_count; ++o) {
      const Op& op = program.ops[o];
      for (int k = 0; k < 3; ++k) {
        if (op.in[k] != buffer || !through_window(op, k)) continue;
        touch(input_rows(program, op, k, block));
        beyond |= reads_beyond_block(op, k);
      }
      if (op.out != buffer) continue;
      touch(block);
    }
    if (all.end > all.begin) most = std::max(most, all.end - all.begin);
    if (!beyond) break;  // the first block is the largest
  }
  if (most == 0) return 0;
  return plan_aligned(rows_bytes(program.buffers[buffer], most));
}

Plan place(const Program& program, const HardwareSpec& spec, const Layout& layout, const Plan& start) {
  Plan plan = start;
  plan.groups = layout.groups;
  plan.ring_slot_bytes = layout.slot_bytes;
  plan.ops.assign(program.ops.size(), {});
  plan.buffers.assign(program.buffers.size(), {});
  plan.windows.clear();
  const std::vector<Lifetime> lives = buffer_lifetimes(program);
  std::vector<Allocation> ddr;
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Buffer& b = program.buffers[i];
    if (b.space == Space::kBound) {
      plan.buffers[i].home = Home::kBound;
    } else if (lives[i].first >= 0 && group_of(plan, lives[i].first) != group_of(plan, lives[i].last)) {
      plan.buffers[i].home = layout.resident[i] ? Home::kResident : Home::kDdr;
      if (layout.resident[i]) continue;
      const PlanGroup& last = plan.groups[group_of(plan, lives[i].last)];
      ddr.push_back({Allocation::Kind::kResident, int32_t(i), 0, int64_t(b.bytes()), plan.groups[group_of(plan, lives[i].first)].first_op,
                     last.first_op + last.op_count - 1});
    }
  }
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    for (size_t i = 0; i < program.buffers.size(); ++i) {
      const Home home = plan.buffers[i].home;
      if (home == Home::kResident || (home != Home::kNone && !spec.staged)) continue;
      const PlanGroup& group = plan.groups[g];
      if (lives[i].first < 0 || lives[i].last < group.first_op || lives[i].first >= group.first_op + group.op_count) continue;
      const int64_t bytes = window_bytes(program, group, BufferId(i));
      if (bytes > 0) plan.windows.push_back({int32_t(g), BufferId(i), 0, bytes});
    }
  }
  for (int32_t o = 0; o < int32_t(program.ops.size()); ++o) {
    const Op& op = program.ops[o];
    const bool streams_kv = op.kind == OpKind::kAttention && (op.state != kNone || plan.buffers[op.in[1]].home == Home::kDdr);
    choose_blocks(program, spec, o, streams_kv, layout.slot_bytes, spec.staged ? smallest_stream(program, o) : 0, &plan.ops[o]);
    plan.ops[o].scratch_bytes = plan_aligned(scratch_bytes(program, plan, o));
  }

  std::vector<Allocation> fast = allocations(program, plan);
  plan.peak_bytes = pack_best(fast);
  for (const Allocation& a : fast) {
    switch (a.kind) {
      case Allocation::Kind::kResident:
        plan.buffers[a.index].offset = a.offset;
        break;
      case Allocation::Kind::kWindow:
        plan.windows[a.index].offset = a.offset;
        break;
      case Allocation::Kind::kScratch:
        plan.ops[a.index].scratch_offset = a.offset;
        break;
      case Allocation::Kind::kRing:
        plan.ring_offset = a.offset;
        break;
    }
  }
  plan.ddr_bytes = pack_best(ddr);
  for (const Allocation& a : ddr) plan.buffers[a.index].offset = a.offset;
  return plan;
}

}  // namespace hvl

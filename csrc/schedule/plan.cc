#include "csrc/schedule/plan.h"

#include <algorithm>
#include <string>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/schedule/access.h"
#include "csrc/schedule/steps.h"
#include "kernels/attention/attention.h"

namespace hvl {
namespace {

class Checker {
 public:
  Checker(const Program& program, const Plan& plan) : program_(program), plan_(plan) {}

  // What is wrong, or an empty string.
  std::string fault() {
    const bool good = header() && groups() && homes() && ops() && disjoint(allocations(program_, plan_), plan_.peak_bytes, "fast memory") &&
                      disjoint(ddr(), plan_.ddr_bytes, "the DDR arena");
    return good ? std::string() : fault_;
  }

 private:
  template <typename... Parts>
  bool bad(const Parts&... parts) {
    fault_ = joined("plan of program ", program_.name, ": ", parts...);
    return false;
  }

  bool header() {
    if (plan_.version != kPlanVersion) return bad("made by version ", plan_.version, " of the planner, this engine reads version ", kPlanVersion, ": plan again");
    if (plan_.program != program_hash(program_)) return bad("it was made for another model, tile shape or activation width: plan again");
    if (plan_.contexts < 1 || plan_.contexts > 1024) return bad("contexts is ", plan_.contexts, ", expected 1 .. 1024");
    if (plan_.budget < 1 || plan_.budget > (int64_t(1) << 40)) return bad("budget is ", plan_.budget, " bytes, expected 1 .. 2^40");
    if (plan_.peak_bytes < 0 || plan_.peak_bytes > plan_.budget) return bad("peak_bytes is ", plan_.peak_bytes, ", the budget ", plan_.budget);
    if (plan_.ddr_bytes < 0 || plan_.ddr_bytes > (int64_t(1) << 40)) return bad("ddr_bytes is ", plan_.ddr_bytes, ", expected 0 .. 2^40");
    if (plan_.ops.size() != program_.ops.size()) return bad("it has ", plan_.ops.size(), " ops, the program ", program_.ops.size());
    if (plan_.buffers.size() != program_.buffers.size()) return bad("it has ", plan_.buffers.size(), " buffers, the program ", program_.buffers.size());
    // Ids come from files as well: every window must name a buffer and a group before anything else looks at them.
    for (const Window& w : plan_.windows) {
      if (w.group < 0 || w.group >= int32_t(plan_.groups.size()) || w.buffer < 0 || w.buffer >= int32_t(plan_.buffers.size())) {
        return bad("a window names group ", w.group, " and buffer ", w.buffer, ", which do not exist");
      }
      if (!place("a window", w.offset, w.bytes)) return false;
    }
    for (const PlanOp& p : plan_.ops) {
      if (!place("an op's scratch", p.scratch_offset, p.scratch_bytes)) return false;
    }
    for (const BufferPlan& b : plan_.buffers) {
      if (!place("a buffer", b.offset, 0)) return false;
    }
    if (!place("the ring", plan_.ring_offset, plan_.ring_slot_bytes)) return false;
    if (plan_.ring_slot_bytes % kPlanAlignment != 0) return bad("a slot of the ring has ", plan_.ring_slot_bytes, " bytes, expected a multiple of ", kPlanAlignment);
    return true;
  }

  bool place(const char* what, int64_t offset, int64_t bytes) {
    if (offset < 0 || offset % kPlanAlignment != 0 || offset > (int64_t(1) << 40) || bytes < 0 || bytes > (int64_t(1) << 40)) {
      return bad(what, " lies at ", offset, " with ", bytes, " bytes: expected a multiple of ", kPlanAlignment, " from 0 on");
    }
    return true;
  }

  bool groups() {
    size_t g = 0;
    for (size_t s = 0; s < program_.sections.size(); ++s) {
      const ProgramSection& section = program_.sections[s];
      int32_t op = section.first_op;
      while (op < section.first_op + section.op_count) {
        if (g == plan_.groups.size()) return bad("its groups end before op ", op);
        const PlanGroup& group = plan_.groups[g++];
        if (group.section != int32_t(s) || group.first_op != op || group.op_count < 1 || op + group.op_count > section.first_op + section.op_count) {
          return bad("group ", g - 1, " does not go on at op ", op, " of section ", section.name);
        }
        if (!check_group(group, int32_t(g) - 1)) return false;
        op += group.op_count;
      }
    }
    if (g != plan_.groups.size()) return bad("it has ", plan_.groups.size(), " groups, of which only ", g, " hold ops");
    return true;
  }

  bool check_group(const PlanGroup& group, int32_t index) {
    const OpRows rows = op_rows(program_, program_.ops[group.first_op]);
    if (group.block_rows < 1) return bad("group ", index, " has blocks of ", group.block_rows, " rows");
    for (int32_t o = group.first_op; o < group.first_op + group.op_count; ++o) {
      const Op& op = program_.ops[o];
      if (!(op_rows(program_, op) == rows)) return bad("the ops of group ", index, " do not have the same rows");
      const int32_t quantum = row_quantum(program_, op);
      const int32_t whole = (rows.max_rows + quantum - 1) / quantum * quantum;
      if (group.block_rows > whole || (group.block_rows % quantum != 0 && group.block_rows < rows.max_rows)) {
        return bad("group ", index, " has blocks of ", group.block_rows, " rows, expected a multiple of ", quantum, " up to ", whole);
      }
      for (int k = 0; k < 3; ++k) {
        if (op.in[k] == kNone || !reads_beyond_block(op, k)) continue;
        for (int32_t w = group.first_op; w < group.first_op + group.op_count; ++w) {
          if (program_.ops[w].out == op.in[k]) return bad("group ", index, " reads all rows of buffer ", name(op.in[k]), " while it writes them");
        }
      }
      if (op.kind != OpKind::kAttention || op.state == kNone) continue;
      for (int32_t w = group.first_op; w < group.first_op + group.op_count; ++w) {
        if (program_.ops[w].kind == OpKind::kKvStore && program_.ops[w].state == op.state) return bad("group ", index, " reads the KV cache while it writes it");
      }
    }
    return true;
  }

  bool homes() {
    const std::vector<Lifetime> lives = buffer_lifetimes(program_);
    for (size_t i = 0; i < program_.buffers.size(); ++i) {
      const Buffer& b = program_.buffers[i];
      const Home home = plan_.buffers[i].home;
      if (lives[i].first < 0) continue;
      if ((home == Home::kBound) != (b.space == Space::kBound)) return bad("buffer ", b.name, " is bound by the caller, or the plan says so wrongly");
      if (home > Home::kBound) return bad("buffer ", b.name, " has no valid home");
      if (home == Home::kNone && group_of(plan_, lives[i].first) != group_of(plan_, lives[i].last)) {
        return bad("buffer ", b.name, " is used by several groups and needs a home");
      }
      if (home == Home::kDdr && plan_.staged && b.dtype == DType::kQuantized) return bad("quantised buffer ", b.name, " cannot live in DDR");
    }
    for (size_t i = 1; i < plan_.windows.size(); ++i) {
      const Window &a = plan_.windows[i - 1], &b = plan_.windows[i];
      if (std::pair(a.group, a.buffer) >= std::pair(b.group, b.buffer)) return bad("its windows are not in order of group and buffer");
    }
    for (const Window& w : plan_.windows) {
      const Home home = plan_.buffers[w.buffer].home;
      if (home == Home::kResident || (home != Home::kNone && !plan_.staged)) return bad("buffer ", name(w.buffer), " has a window it does not need");
    }
    return true;
  }

  bool ops() {
    for (int32_t o = 0; o < int32_t(program_.ops.size()); ++o) {
      const Op& op = program_.ops[o];
      const PlanOp& p = plan_.ops[o];
      const PlanGroup& group = plan_.groups[group_of(plan_, o)];
      const int32_t rows = std::min(group.block_rows, op_rows(program_, op).max_rows);
      if (p.block_units < 0 || p.block_units > op_units(program_, op)) return bad("op ", o, " has blocks of ", p.block_units, " units");
      if (p.block_units > 0 && op.kind != OpKind::kLinear && op.kind != OpKind::kAttention) return bad("op ", o, " cannot be cut into units");
      if (p.block_keys != 0 && (op.kind != OpKind::kAttention || p.block_keys < 0 || p.block_keys % kAttentionChunk != 0)) {
        return bad("op ", o, " has blocks of ", p.block_keys, " keys, expected a multiple of ", kAttentionChunk);
      }
      if (p.scratch_bytes < scratch_bytes(program_, plan_, o)) {
        return bad("op ", o, " has ", p.scratch_bytes, " bytes of scratch, it needs ", scratch_bytes(program_, plan_, o));
      }
      if (const int64_t bytes = streamed_bytes(program_, plan_, o); bytes > 2 * plan_.ring_slot_bytes) {
        return bad("op ", o, " streams ", bytes, " bytes, the ring holds ", 2 * plan_.ring_slot_bytes);
      }
      // Every range a block of rows can touch must fit its window.
      for (int32_t begin = 0; begin < op_rows(program_, op).max_rows; begin += group.block_rows) {
        const RowRange block = {begin, std::min(op_rows(program_, op).max_rows, begin + group.block_rows)};
        for (int k = 0; k < 3; ++k) {
          if (op.in[k] == kNone || !(through_window(op, k) || is_kv(op, k))) continue;
          if (!fits(o, op.in[k], is_kv(op, k), is_kv(op, k) ? rows : touched(o, op.in[k], block))) return false;
        }
        if (op.out == kNone) continue;
        if (!fits(o, op.out, is_kv(op, 3), is_kv(op, 3) ? block.end - block.begin : touched(o, op.out, block))) return false;
      }
    }
    return true;
  }

  int32_t touched(int32_t o, BufferId id, RowRange block) const {
    const RowRange r = window_rows(program_, plan_, group_of(plan_, o), id, block);
    return r.end - r.begin;
  }

  bool fits(int32_t o, BufferId id, bool kv, int32_t rows) {
    const Buffer& b = program_.buffers[id];
    const Home home = plan_.buffers[id].home;
    if (home == Home::kResident || (home != Home::kNone && !plan_.staged)) return true;
    if (kv && program_.ops[o].kind == OpKind::kAttention) return true;  // streamed
    const int32_t group = group_of(plan_, o);
    const auto found = std::find_if(plan_.windows.begin(), plan_.windows.end(), [&](const Window& w) { return w.group == group && w.buffer == id; });
    const int64_t needed = rows_bytes(b, rows);
    if (found == plan_.windows.end()) return bad("buffer ", b.name, " has no window in group ", group);
    if (found->bytes < needed) return bad("the window of buffer ", b.name, " in group ", group, " has ", found->bytes, " bytes, it needs ", needed);
    return true;
  }

  std::vector<Allocation> ddr() const {
    std::vector<Allocation> out;
    const std::vector<Lifetime> lives = buffer_lifetimes(program_);
    for (size_t i = 0; i < plan_.buffers.size(); ++i) {
      if (plan_.buffers[i].home != Home::kDdr || lives[i].first < 0) continue;
      const PlanGroup& last = plan_.groups[group_of(plan_, lives[i].last)];
      out.push_back({Allocation::Kind::kResident, int32_t(i), plan_.buffers[i].offset, int64_t(program_.buffers[i].bytes()),
                     plan_.groups[group_of(plan_, lives[i].first)].first_op, last.first_op + last.op_count - 1});
    }
    return out;
  }

  bool disjoint(const std::vector<Allocation>& all, int64_t limit, const char* where) {
    for (size_t i = 0; i < all.size(); ++i) {
      const Allocation& a = all[i];
      if (a.offset + a.bytes > limit) return bad("an allocation ends at byte ", a.offset + a.bytes, " of ", where, ", which has ", limit);
      for (size_t j = 0; j < i; ++j) {
        const Allocation& b = all[j];
        if (a.first_op <= b.last_op && b.first_op <= a.last_op && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes) {
          return bad("two allocations that live at the same time overlap at byte ", std::max(a.offset, b.offset), " of ", where);
        }
      }
    }
    return true;
  }

  const std::string& name(BufferId id) const { return program_.buffers[id].name; }

  const Program& program_;
  const Plan& plan_;
  std::string fault_;
};

}  // namespace

int32_t group_of(const Plan& plan, int32_t op) {
  int32_t g = 0;
  while (g + 1 < int32_t(plan.groups.size()) && plan.groups[g + 1].first_op <= op) ++g;
  return g;
}

std::vector<Allocation> allocations(const Program& program, const Plan& plan) {
  std::vector<Allocation> out;
  const std::vector<Lifetime> lives = buffer_lifetimes(program);
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    if (plan.buffers[i].home != Home::kResident || lives[i].first < 0) continue;
    // Blocks of a group run one after another, so a resident buffer lives through the whole of its first and last group.
    const PlanGroup &first = plan.groups[group_of(plan, lives[i].first)], &last = plan.groups[group_of(plan, lives[i].last)];
    out.push_back({Allocation::Kind::kResident, int32_t(i), plan.buffers[i].offset, int64_t(program.buffers[i].bytes()), first.first_op,
                   last.first_op + last.op_count - 1});
  }
  for (size_t i = 0; i < plan.windows.size(); ++i) {
    const Window& w = plan.windows[i];
    const PlanGroup& group = plan.groups[w.group];
    int32_t first = -1, last = -1;
    for (int32_t o = group.first_op; o < group.first_op + group.op_count; ++o) {
      const Op& op = program.ops[o];
      bool uses = op.out == w.buffer;
      if (!plan.staged && o + 1 < group.first_op + group.op_count && program.ops[o + 1].out == w.buffer) uses |= quantised_next(program, o);
      for (int k = 0; k < 3; ++k) uses |= op.in[k] == w.buffer && (through_window(op, k) || is_kv(op, k));
      if (!uses) continue;
      if (first < 0) first = o;
      last = o;
    }
    if (first < 0) continue;
    out.push_back({Allocation::Kind::kWindow, int32_t(i), w.offset, w.bytes, first, last});
  }
  for (size_t o = 0; o < plan.ops.size(); ++o) {
    if (plan.ops[o].scratch_bytes == 0) continue;
    out.push_back({Allocation::Kind::kScratch, int32_t(o), plan.ops[o].scratch_offset, plan.ops[o].scratch_bytes, int32_t(o), int32_t(o)});
  }
  if (plan.ring_slot_bytes > 0) {
    out.push_back({Allocation::Kind::kRing, 0, plan.ring_offset, 2 * plan.ring_slot_bytes, 0, int32_t(program.ops.size()) - 1});
  }
  return out;
}

std::string plan_fault(const Program& program, const Plan& plan) { return Checker(program, plan).fault(); }

void check_plan(const Program& program, const Plan& plan) {
  if (const std::string fault = plan_fault(program, plan); !fault.empty()) fail(ErrorKind::kValue, fault);
}

uint64_t plan_hash(const Plan& plan) {
  std::string bytes;
  const auto number = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); };
  number(plan.version);
  number(plan.program);
  bytes += plan.spec;
  for (int64_t v : {int64_t(plan.staged), int64_t(plan.contexts), plan.budget, plan.peak_bytes, plan.ddr_bytes, plan.ring_offset, plan.ring_slot_bytes}) number(v);
  for (const PlanGroup& g : plan.groups) {
    for (int32_t v : {g.section, g.first_op, g.op_count, g.block_rows}) number(v);
  }
  for (const PlanOp& p : plan.ops) {
    for (int64_t v : {int64_t(p.block_units), int64_t(p.block_keys), p.scratch_offset, p.scratch_bytes}) number(v);
  }
  for (const BufferPlan& b : plan.buffers) {
    for (int64_t v : {int64_t(b.home), b.offset}) number(v);
  }
  for (const Window& w : plan.windows) {
    for (int64_t v : {int64_t(w.group), int64_t(w.buffer), w.offset, w.bytes}) number(v);
  }
  return hash64(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace hvl

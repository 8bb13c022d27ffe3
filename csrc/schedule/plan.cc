#include "csrc/schedule/plan.h"

#include <algorithm>
#include <numeric>

namespace hvl {
namespace {

constexpr size_t kAlignment = 64;

const ProgramSection& section_of(const Program& program, int32_t op) {
  for (const ProgramSection& s : program.sections) {
    if (op >= s.first_op && op < s.first_op + s.op_count) return s;
  }
  return program.sections.back();
}

}  // namespace

std::vector<Lifetime> buffer_lifetimes(const Program& program) {
  std::vector<Lifetime> lives(program.buffers.size());
  std::vector<bool> written(program.buffers.size(), false);
  for (size_t o = 0; o < program.ops.size(); ++o) {
    const Op& op = program.ops[o];
    const ProgramSection& section = section_of(program, int32_t(o));
    const int32_t section_end = section.first_op + section.op_count - 1;
    const auto touch = [&](BufferId id, bool write) {
      if (id == kNone) return;
      Lifetime& life = lives[id];
      // What a repeated section reads before it writes it comes from outside or from the repetition before: it lives through the section.
      const bool carried = section.repeat > 1 && ((life.first >= 0 && life.first < section.first_op) || (!write && !written[id]));
      const int32_t first = carried ? section.first_op : int32_t(o);
      const int32_t last = carried ? section_end : int32_t(o);
      life.first = life.first < 0 ? first : std::min(life.first, first);
      life.last = std::max(life.last, last);
      if (write) written[id] = true;
    };
    for (BufferId id : op.in) touch(id, false);
    touch(op.out, true);
  }
  return lives;
}

Plan make_plan(const Program& program) {
  Plan plan;
  plan.offsets.assign(program.buffers.size(), kNotPlaced);
  const std::vector<Lifetime> lives = buffer_lifetimes(program);

  std::vector<size_t> order;
  for (size_t b = 0; b < program.buffers.size(); ++b) {
    if (program.buffers[b].space == Space::kArena && lives[b].first >= 0) order.push_back(b);
  }
  // Largest first, each at the lowest offset that is free during its whole life.
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return program.buffers[a].bytes() > program.buffers[b].bytes(); });
  std::vector<size_t> placed;
  for (size_t b : order) {
    const size_t bytes = (program.buffers[b].bytes() + kAlignment - 1) / kAlignment * kAlignment;
    std::vector<std::pair<size_t, size_t>> taken;
    for (size_t p : placed) {
      if (lives[p].last >= lives[b].first && lives[b].last >= lives[p].first) {
        taken.emplace_back(plan.offsets[p], plan.offsets[p] + program.buffers[p].bytes());
      }
    }
    std::sort(taken.begin(), taken.end());
    size_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + bytes <= begin) break;
      offset = std::max(offset, (end + kAlignment - 1) / kAlignment * kAlignment);
    }
    plan.offsets[b] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + bytes);
    placed.push_back(b);
  }
  return plan;
}

}  // namespace hvl

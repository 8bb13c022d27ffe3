#include "csrc/schedule/group_search.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/attention/attention.h"

namespace hvl {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kGroupSeconds = 1e-9;     // so that of equal cuts the one with fewer groups and blocks wins
constexpr int64_t kLargestSlot = 4 << 20;  // larger transfers save nothing
constexpr size_t kMostSubsets = 4;         // buffers that must cross groups: up to here every choice of residents is tried

int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Adds smaller blocks: about 1/2, 1/3, 1/4, 1/5, 1/7, ... of the rows, in multiples of the quantum and of 16 where there are as many.
void add_blocks(int32_t rows, int32_t quantum, std::vector<int32_t>& blocks) {
  for (int32_t parts = 2; blocks.back() > quantum && parts <= rows; parts = std::max(parts + 1, parts * 7 / 5)) {
    const int32_t block = ceil_div(ceil_div(rows, parts), quantum) * quantum;
    const int32_t even = ceil_div(block, std::lcm(quantum, 16)) * std::lcm(quantum, 16);
    if (block > 16 && even < blocks.back()) {
      blocks.push_back(even);
    } else if (block < blocks.back()) {
      blocks.push_back(block);
    }
  }
  if (blocks.back() > quantum) blocks.push_back(quantum);
}

}  // namespace

GroupSearch::GroupSearch(const Program& program, const HardwareSpec& spec)
    : program_(program), spec_(spec), largest_(largest_run(program)), cached_(cached(program, {}, spec)), lives_(buffer_lifetimes(program)) {
  const size_t ops = program.ops.size();
  find_runs();
  low_.resize(ops);
  pairs_.resize(ops);
  size_t pairs = 0;
  for (int32_t o = 0; o < int32_t(ops); ++o) {
    low_[o] = o > 0 ? low_[o - 1] : 0;
    for (int32_t a = o - 1; a >= low_[o]; --a) {
      if (may_share(a, o)) continue;
      low_[o] = a + 1;
      break;
    }
    pairs_[o] = pairs;
    pairs += size_t(o - low_[o]) + 1;
  }
  options_.resize(pairs);
  change_.resize(ops + 2);
  smallest_.assign(ops, 0);
  if (spec.staged) {
    for (size_t o = 0; o < ops; ++o) smallest_[o] = smallest_stream(program, int32_t(o));
  }
  find_slots();
  find_residents();
  costs_.resize(ops);
  for (const Run& run : runs_) {
    for (int32_t o = run.first_op; o < run.first_op + run.op_count; ++o) measure_op(o, run);
  }
  uses_.resize(program.buffers.size());
  for (size_t b = 0; b < program.buffers.size(); ++b) measure_uses(BufferId(b));
}

// Whether ops a < b may be in one group, as far as these two go.
bool GroupSearch::may_share(int32_t a, int32_t b) const {
  if (run_of_[a] != run_of_[b]) return false;
  const Op &x = program_.ops[a], &y = program_.ops[b];
  for (int k = 0; k < 3; ++k) {
    if (x.in[k] != kNone && x.in[k] == y.out && reads_beyond_block(x, k)) return false;
    if (y.in[k] != kNone && y.in[k] == x.out && reads_beyond_block(y, k)) return false;
  }
  const bool store = x.kind == OpKind::kKvStore || y.kind == OpKind::kKvStore;
  const bool attention = x.kind == OpKind::kAttention || y.kind == OpKind::kAttention;
  return !(store && attention && x.state != kNone && x.state == y.state);
}

void GroupSearch::find_runs() {
  run_of_.resize(program_.ops.size());
  for (size_t s = 0; s < program_.sections.size(); ++s) {
    const ProgramSection& section = program_.sections[s];
    for (int32_t o = section.first_op; o < section.first_op + section.op_count; ++o) {
      const OpRows rows = op_rows(program_, program_.ops[o]);
      if (o == section.first_op || !(rows == op_rows(program_, program_.ops[o - 1]))) runs_.push_back({o, 0, int32_t(s), {}});
      ++runs_.back().op_count;
      run_of_[o] = int32_t(runs_.size()) - 1;
    }
  }
  for (Run& run : runs_) {
    const int32_t rows = op_rows(program_, program_.ops[run.first_op]).max_rows;
    run.blocks = {rows};
    // Blocks that every op of the run can take, then smaller ones for the groups without the coarsest ops.
    std::vector<int32_t> quanta;
    for (int32_t o = run.first_op; o < run.first_op + run.op_count; ++o) quanta.push_back(row_quantum(program_, program_.ops[o]));
    while (!quanta.empty()) {
      int64_t all = 1;
      for (int32_t q : quanta) all = std::min<int64_t>(std::lcm<int64_t>(all, q), rows);
      add_blocks(rows, int32_t(all), run.blocks);
      std::erase(quanta, *std::max_element(quanta.begin(), quanta.end()));
    }
  }
}

// From the least that works (the largest smallest block may take both slots) up to where whole weights fit.
void GroupSearch::find_slots() {
  if (!spec_.staged) {
    slots_ = {0};
    return;
  }
  int64_t weights = 0, keys = 0, whole = 0;
  for (size_t o = 0; o < program_.ops.size(); ++o) {
    const Op& op = program_.ops[o];
    int64_t& need = op.kind == OpKind::kAttention ? keys : weights;
    need = std::max(need, smallest_[o]);
    whole = std::max(whole, smallest_[o] * op_units(program_, op));
  }
  slots_ = {plan_aligned(weights / 2), plan_aligned(weights), plan_aligned(keys / 2), plan_aligned(keys)};
  for (int64_t slot = std::max(weights, keys); slot < std::min(whole, kLargestSlot);) {
    slot *= 2;
    slots_.push_back(plan_aligned(slot));
  }
  std::sort(slots_.begin(), slots_.end());
  slots_.erase(std::unique(slots_.begin(), slots_.end()), slots_.end());
}

void GroupSearch::find_residents() {
  std::vector<BufferId> crossing, others;
  for (size_t i = 0; i < program_.buffers.size(); ++i) {
    const Lifetime& life = lives_[i];
    if (program_.buffers[i].space == Space::kBound || life.first < 0) continue;
    (low_[life.last] > life.first ? crossing : others).push_back(BufferId(i));
  }
  const auto quantised = [&] {
    std::vector<bool> set(program_.buffers.size());
    for (size_t i = 0; i < set.size(); ++i) set[i] = program_.buffers[i].dtype == DType::kQuantized;  // cannot live in DDR
    return set;
  };
  if (crossing.size() <= kMostSubsets) {
    for (size_t mask = (size_t(1) << crossing.size()); mask-- > 0;) {
      for (const bool rest : {true, false}) {
        std::vector<bool> set = quantised();
        for (size_t i = 0; i < crossing.size(); ++i) set[crossing[i]] = (mask >> i & 1) != 0;
        for (BufferId id : others) set[id] = set[id] || rest;
        if (resident_sets_.empty() || resident_sets_.back() != set) resident_sets_.push_back(std::move(set));
      }
    }
    return;
  }
  // Too many for that: those up to a size, for each size there is.
  std::vector<int64_t> sizes = {0};
  for (BufferId id : crossing) sizes.push_back(int64_t(program_.buffers[id].bytes()));
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (int64_t size : sizes) {
    std::vector<bool> set = quantised();
    for (size_t i = 0; i < set.size(); ++i) set[i] = set[i] || int64_t(program_.buffers[i].bytes()) <= size;
    resident_sets_.push_back(std::move(set));
  }
}

// The objective (cost.h) of an op over all its blocks. Streamed blocks come in beside the arithmetic if they have slots to alternate between.
double GroupSearch::estimate(const Plan& mock, int32_t o, int32_t block_rows, bool streams_kv, const PlanOp& blocks,
                             int64_t slot_bytes) const {
  const Op& op = program_.ops[o];
  const Run& run = runs_[run_of_[o]];
  const int32_t rows = op_rows(program_, op).max_rows, count = ceil_div(rows, block_rows);
  if (block_rows < rows && block_rows % row_quantum(program_, op) != 0) return kNever;
  const int32_t units = op_units(program_, op);
  const int32_t unit_step = blocks.block_units > 0 ? blocks.block_units : units;
  double compute_s = 0, stream_s = 0, serial_s = 0;
  Step step;
  step.section = run.section;
  step.group = step.op = o;
  step.first = step.last = true;
  // `times` steps of a shape, of which `waiting` cannot be fetched ahead.
  const auto steps = [&](int32_t times, int32_t waiting) {
    if (times <= 0) return;
    compute_s += times * step_seconds(program_, mock, spec_, cached_, step);
    if (!mock.staged) return;
    const TransferList list = streamed(program_, mock, step);
    if (list.count == 0) return;
    int64_t bytes = 0;
    for (const Transfer& t : list) bytes += t.bytes();
    const double each_s = list_seconds(spec_, bytes, list.count);
    if (bytes > slot_bytes) {
      serial_s += times * each_s;
    } else {
      stream_s += (times - waiting) * each_s;
      serial_s += waiting * each_s;
    }
  };
  for (const bool tail : {false, true}) {
    const int32_t times = tail ? 1 : count - 1;
    if (times == 0) continue;
    step.block = tail ? count - 1 : 0;
    // In the middle of the blocks: causal attention sees as many keys there as on average.
    step.row_begin = tail ? step.block * block_rows : (count - 2) * block_rows / 2;
    step.row_end = std::min(rows, step.row_begin + block_rows);
    if (mock.staged) {
      const TransferList loads = loads_before(program_, mock, step, largest_), stores = stores_after(program_, mock, step, largest_);
      for (const TransferList* list : {&loads, &stores}) {
        int64_t bytes = 0;
        for (const Transfer& t : *list) bytes += t.bytes();
        serial_s += times * list_seconds(spec_, bytes, list->count);
      }
    }
    if (op.kind == OpKind::kEmbed && spec_.staged) {
      const int32_t each = step.row_end - step.row_begin;
      step.row_end = step.row_begin + 1;
      steps(times * each, 0);
      continue;
    }
    int32_t keys = 0, key_step = 1;
    if (op.kind == OpKind::kAttention) {
      const int32_t before = op.state == kNone ? 0 : largest_.position;
      keys = op.i[1] ? largest_.position + step.row_end : before + rows;
      key_step = streams_kv && blocks.block_keys > 0 ? blocks.block_keys : keys;
    }
    for (const bool unit_tail : {false, true}) {
      const int32_t unit_times = unit_tail ? (units % unit_step != 0) : units / unit_step;
      step.unit_begin = unit_tail ? units / unit_step * unit_step : 0;
      step.unit_end = unit_tail ? units : unit_step;
      if (op.kind != OpKind::kAttention) {
        steps(times * unit_times, 0);
        continue;
      }
      // The first keys of a block of rows are written just before, and so not fetched ahead.
      const int32_t waiting = unit_tail ? 0 : times, whole = keys / key_step;
      step.key_begin = 0;
      step.key_end = key_step;
      steps(times * unit_times * whole, waiting);
      step.key_begin = whole * key_step;
      step.key_end = keys;
      steps(times * unit_times * (keys % key_step != 0), whole == 0 ? waiting : 0);
    }
  }
  return serial_s + std::max(compute_s, stream_s) + kTransferWeight * (serial_s + stream_s);
}

void GroupSearch::measure_op(int32_t o, const Run& run) {
  Plan mock;  // every op a group of its own; operands in fast memory
  mock.staged = spec_.staged;
  mock.contexts = int32_t(spec_.contexts);
  mock.groups.resize(program_.ops.size());
  for (size_t g = 0; g < mock.groups.size(); ++g) mock.groups[g] = {run.section, int32_t(g), 1, 1};
  mock.ops.resize(program_.ops.size());
  mock.buffers.resize(program_.buffers.size());
  for (size_t b = 0; b < program_.buffers.size(); ++b) {
    mock.buffers[b].home = program_.buffers[b].space == Space::kBound ? Home::kBound : Home::kResident;
  }
  const Op& op = program_.ops[o];
  OpCosts& costs = costs_[o];
  const bool attention = op.kind == OpKind::kAttention;
  const bool varies = spec_.staged && (attention || op.kind == OpKind::kLinear);  // with the slot
  for (int v = 0; v < 2; ++v) {
    if (v == 1 && !(attention && op.state == kNone)) {
      costs.scratch[1] = costs.scratch[0];
      costs.seconds[1] = costs.seconds[0];
      break;
    }
    const bool streams = attention && (op.state != kNone || v == 1);
    if (v == 1) mock.buffers[op.in[1]].home = Home::kDdr;
    for (int32_t block : run.blocks) {
      mock.groups[o].block_rows = block;
      int64_t scratch = 0;
      for (size_t s = 0; s < slots_.size(); ++s) {
        if (s > 0 && !varies && smallest_[o] <= slots_[s - 1]) {
          costs.seconds[v].push_back(costs.seconds[v].back());
          continue;
        }
        const bool fits = choose_blocks(program_, spec_, o, streams, slots_[s], smallest_[o], &mock.ops[o]);
        if (s == 0 || fits) scratch = plan_aligned(scratch_bytes(program_, mock, o));
        costs.seconds[v].push_back(fits ? estimate(mock, o, block, streams, mock.ops[o], slots_[s]) : kNever);
      }
      costs.scratch[v].push_back(scratch);
    }
  }
}

void GroupSearch::measure_uses(BufferId id) {
  const Buffer& b = program_.buffers[id];
  const double row = bytes_a_row(b);
  for (int32_t o = 0; o < int32_t(program_.ops.size()); ++o) {
    const Op& op = program_.ops[o];
    Use use;
    use.op = o;
    use.writes = op.out == id;
    use.reads = use.writes && reads_output(op);
    int operand = -1;
    for (int k = 0; k < 3; ++k) {
      if (op.in[k] != id || !(through_window(op, k) || (!spec_.staged && is_kv(op, k)))) continue;
      use.reads = true;
      operand = k;
    }
    if (!use.reads && !use.writes) continue;
    const bool beyond = operand >= 0 && reads_beyond_block(op, operand);
    const int32_t rows = op_rows(program_, op).max_rows;
    for (int32_t block : runs_[run_of_[o]].blocks) {
      const int32_t blocks = ceil_div(rows, block);
      const int32_t items = is_kv(op, 3) && use.writes ? 2 : 1;  // keys, values
      int64_t read = rows;
      int32_t most = std::min(rows, block);
      if (beyond) {
        read = 0;
        for (int32_t begin = 0; begin < rows; begin += block) {
          const RowRange r = input_rows(program_, op, operand, {begin, std::min(rows, begin + block)});
          read += r.end - r.begin;
          most = std::max(most, r.end - r.begin);
        }
      }
      const double written = double(rows) * row;
      use.window.push_back(plan_aligned(rows_bytes(b, most)));
      if (spec_.staged) {
        use.load_s.push_back(use.reads ? list_seconds(spec_, int64_t(double(read) * row), blocks) : 0);
        use.store_s.push_back(use.writes ? list_seconds(spec_, int64_t(written), blocks * items) : 0);
      } else {
        use.load_s.push_back(use.reads ? double(read) * row / spec_.ddr_bytes_per_s : 0);
        use.store_s.push_back(use.writes ? written / spec_.ddr_bytes_per_s : 0);
      }
    }
    uses_[id].push_back(std::move(use));
  }
}

bool GroupSearch::streams_kv(int32_t o) const {
  const Op& op = program_.ops[o];
  return op.kind == OpKind::kAttention && op.state == kNone && !resident_[op.in[1]];
}

// Need and transfers of ops first .. last as one group.
GroupSearch::Option GroupSearch::option(int32_t first, int32_t last, size_t candidate) const {
  int64_t fixed = 0;
  double transfer_s = 0;
  std::fill_n(change_.begin(), last - first + 2, 0);
  for (size_t b = 0; b < uses_.size(); ++b) {
    const Lifetime& life = lives_[b];
    if (life.first < 0 || life.last < first || life.first > last) continue;
    const bool bound = program_.buffers[b].space == Space::kBound;
    const bool inside = !bound && life.first >= first && life.last <= last;
    if (!bound && !inside && resident_[b]) {
      fixed += plan_aligned(int64_t(program_.buffers[b].bytes()));
      continue;
    }
    if (bound && !spec_.staged) continue;  // in place, and counted with the op
    const Use *begin = nullptr, *end = nullptr;
    int64_t window = 0;
    double store_s = 0;
    for (const Use& use : uses_[b]) {
      if (use.op < first || use.op > last) continue;
      if (!begin) begin = &use;
      end = &use;
      window = std::max(window, use.window[candidate]);
      if (use.writes) store_s = use.store_s[candidate];
      if (!spec_.staged && !inside) transfer_s += use.load_s[candidate] + use.store_s[candidate];
    }
    if (!begin || (!spec_.staged && !inside)) continue;
    change_[begin->op - first] += window;
    change_[end->op - first + 1] -= window;
    if (!inside) transfer_s += begin->load_s[candidate] + store_s;
  }
  int64_t live = 0, most = 0;
  for (int32_t o = first; o <= last; ++o) {
    live += change_[o - first];
    most = std::max(most, live + costs_[o].scratch[streams_kv(o)][candidate]);
  }
  return {fixed + most, transfer_s};
}

void GroupSearch::use_residents(const std::vector<bool>& resident) {
  resident_ = resident;
  size_t most = 0;
  for (const Run& run : runs_) most = std::max(most, run.blocks.size());
  prefix_.assign(most * slots_.size(), std::vector<double>(program_.ops.size() + 1, 0));
  blocked_.assign(most * slots_.size(), std::vector<int32_t>(program_.ops.size() + 1, 0));
  for (const Run& run : runs_) {
    const int32_t repeat = program_.sections[run.section].repeat;
    for (size_t c = 0; c < run.blocks.size(); ++c) {
      for (size_t s = 0; s < slots_.size(); ++s) {
        std::vector<double>& sum = prefix_[c * slots_.size() + s];
        std::vector<int32_t>& blocked = blocked_[c * slots_.size() + s];
        for (int32_t o = run.first_op; o < run.first_op + run.op_count; ++o) {
          const double seconds = costs_[o].seconds[streams_kv(o)][c * slots_.size() + s];
          sum[o + 1] = sum[o] + (seconds < kNever ? repeat * seconds : 0);
          blocked[o + 1] = blocked[o] + !(seconds < kNever);
        }
      }
    }
    for (int32_t last = run.first_op; last < run.first_op + run.op_count; ++last) {
      for (int32_t first = low_[last]; first <= last; ++first) {
        std::vector<Option>& options = options_[pair(first, last)];
        options.clear();
        for (size_t c = 0; c < run.blocks.size(); ++c) {
          Option o = option(first, last, c);
          const int32_t rows = op_rows(program_, program_.ops[first]).max_rows;
          o.transfer_s = repeat * (o.transfer_s + kGroupSeconds * (1 + ceil_div(rows, run.blocks[c])));
          options.push_back(o);
        }
      }
    }
  }
}

int64_t GroupSearch::least_bytes(size_t slot) {
  constexpr int64_t kTooMuch = int64_t(1) << 60;
  const size_t ops = program_.ops.size();
  std::vector<int64_t> least(ops + 1, kTooMuch);
  least[0] = 0;
  for (int32_t last = 0; last < int32_t(ops); ++last) {
    for (int32_t first = low_[last]; first <= last; ++first) {
      const std::vector<Option>& options = options_[pair(first, last)];
      for (size_t c = 0; c < options.size(); ++c) {
        const std::vector<int32_t>& blocked = blocked_[c * slots_.size() + slot];
        if (blocked[last + 1] == blocked[first]) least[last + 1] = std::min(least[last + 1], std::max(least[first], options[c].bytes));
      }
    }
  }
  return least[ops] == kTooMuch ? -1 : least[ops] + 2 * slots_[slot];
}

bool GroupSearch::best(size_t slot, int64_t limit, Layout* layout) {
  const size_t ops = program_.ops.size();
  const int64_t free = limit - 2 * slots_[slot];
  struct Node {
    double seconds = kNever;
    int32_t first = 0;
    uint32_t candidate = 0;
  };
  std::vector<Node> nodes(ops + 1);
  nodes[0].seconds = 0;
  for (int32_t last = 0; last < int32_t(ops); ++last) {
    Node& node = nodes[last + 1];
    for (int32_t first = low_[last]; first <= last; ++first) {
      const std::vector<Option>& options = options_[pair(first, last)];
      for (size_t c = 0; c < options.size(); ++c) {
        const std::vector<int32_t>& blocked = blocked_[c * slots_.size() + slot];
        if (options[c].bytes > free || blocked[last + 1] != blocked[first]) continue;
        const std::vector<double>& sum = prefix_[c * slots_.size() + slot];
        const double seconds = nodes[first].seconds + options[c].transfer_s + (sum[last + 1] - sum[first]);
        if (seconds < node.seconds) node = {seconds, first, uint32_t(c)};
      }
    }
  }
  if (!(nodes[ops].seconds < kNever)) return false;
  layout->groups.clear();
  layout->resident = resident_;
  layout->slot_bytes = slots_[slot];
  layout->seconds = nodes[ops].seconds;
  layout->bytes = 0;
  for (auto end = int32_t(ops); end > 0; end = nodes[end].first) {
    const Node& node = nodes[end];
    const Run& run = runs_[run_of_[node.first]];
    layout->groups.push_back({run.section, node.first, end - node.first, run.blocks[node.candidate]});
    layout->bytes = std::max(layout->bytes, options_[pair(node.first, end - 1)][node.candidate].bytes + 2 * slots_[slot]);
  }
  std::reverse(layout->groups.begin(), layout->groups.end());
  return true;
}

}  // namespace hvl

#include "csrc/schedule/scheduler.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/schedule/group_search.h"

namespace hvl {
namespace {

// Plans this near to each other are equally fast, and the smaller footprint decides: caches reward it in ways the cost model does not see.
constexpr double kAsGood = 1 + 1e-9;

constexpr int64_t kMostBudget = int64_t(1) << 40;  // what check_plan takes

// Limits on fast memory that are searched: 8 in every octave. They do not depend on the budget, so that the plans to choose from for one
// budget are also there for every larger one: more memory can only help.
std::vector<int64_t> ladder(int64_t most) {
  constexpr std::array<int64_t, 8> kSteps = {1000, 1091, 1189, 1297, 1414, 1542, 1682, 1834};
  std::vector<int64_t> limits;
  for (int64_t octave = 1024;; octave *= 2) {
    for (int64_t step : kSteps) {
      const int64_t limit = octave * step / 1000 / kPlanAlignment * kPlanAlignment;
      if (limit > most) return limits;
      if (limits.empty() || limit > limits.back()) limits.push_back(limit);
    }
  }
}

// The fastest layout for every limit of the ladder, and the one that needs least.
class Family {
 public:
  Family(const Program& program, const HardwareSpec& spec, int64_t most) : program_(program), spec_(spec), limits_(ladder(most)) {
    at_limit_.assign(limits_.size(), -1);
    GroupSearch search(program, spec);
    for (const std::vector<bool>& set : search.resident_sets()) {
      search.use_residents(set);
      for (size_t slot = 0; slot < search.slots().size(); ++slot) add(search, slot);
    }
    start_.program = program_hash(program);
    start_.spec = spec.name;
    start_.staged = spec.staged;
    start_.contexts = int32_t(spec.contexts);
  }

  // Of the plans within `budget` whose simulated objective is at most kAsGood times the least, the one with the least in DDR and the
  // lowest peak; false when no plan fits.
  bool best(int64_t budget, Plan* chosen) const {
    struct Candidate {
      double seconds;
      Plan plan;
    };
    std::vector<Candidate> candidates;
    double best_s = -1;
    int32_t before = -1;
    const RunScalars run = largest_run(program_);
    for (auto i = int32_t(limits_.size()) - 1; i >= -1; --i) {
      const int32_t layout = i >= 0 ? at_limit_[i] : least_;
      if (layout < 0 || layout == before) continue;
      before = layout;
      // A staged run takes at least the larger of arithmetic and transfers, and the estimate is at most their sum and what traffic weighs: the
      // plans that are left cannot be better. (In place, caches may make a run faster than that.)
      if (spec_.staged && best_s >= 0 && layouts_[layout].seconds > (2 + kTransferWeight) * kAsGood * best_s) break;
      Plan plan = place(program_, spec_, layouts_[layout], start_);
      if (plan.peak_bytes > budget) continue;
      const double seconds = simulate(program_, plan, spec_, run).objective();
      if (best_s < 0 || seconds < best_s) best_s = seconds;
      candidates.push_back({seconds, std::move(plan)});
    }
    const Candidate* best = nullptr;
    for (const Candidate& c : candidates) {
      if (c.seconds <= kAsGood * best_s && (!best || footprint(c.plan) < footprint(best->plan))) best = &c;
    }
    if (!best) return false;
    *chosen = best->plan;
    chosen->budget = budget;
    return true;
  }

  // The least budget for which best() finds a plan.
  int64_t smallest_budget() const {
    int64_t smallest = least_ < 0 ? -1 : peak(least_);
    int32_t before = -1;
    for (size_t i = 0; i < limits_.size() && (smallest < 0 || limits_[i] < smallest); ++i) {
      if (at_limit_[i] < 0 || at_limit_[i] == before) continue;
      before = at_limit_[i];
      const int64_t needed = std::max(limits_[i], peak(before));
      if (smallest < 0 || needed < smallest) smallest = needed;
    }
    return smallest;
  }

 private:
  void add(GroupSearch& search, size_t slot) {
    const int64_t least = search.least_bytes(slot);
    if (least < 0) return;
    Layout layout;
    for (auto i = int32_t(limits_.size()) - 1; i >= 0 && limits_[i] >= least;) {
      if (!search.best(slot, limits_[i], &layout)) break;
      // The same layout is the best for every limit down to what it needs.
      int32_t stored = -1;
      for (; i >= 0 && limits_[i] >= layout.bytes; --i) {
        int32_t& held = at_limit_[i];
        if (held >= 0 && layouts_[held].seconds <= layout.seconds) continue;
        if (stored < 0) {
          stored = int32_t(layouts_.size());
          layouts_.push_back(layout);
        }
        held = stored;
      }
    }
    const bool tie = least_ >= 0 && least == layouts_[least_].bytes;
    if (least_ < 0 || least < layouts_[least_].bytes || tie) {
      search.best(slot, least, &layout);
      if (tie && layout.seconds >= layouts_[least_].seconds) return;
      least_ = int32_t(layouts_.size());
      layouts_.push_back(layout);
    }
  }

  static std::pair<int64_t, int64_t> footprint(const Plan& plan) { return {plan.ddr_bytes, plan.peak_bytes}; }
  int64_t peak(int32_t layout) const { return place(program_, spec_, layouts_[layout], start_).peak_bytes; }

  const Program& program_;
  const HardwareSpec& spec_;
  std::vector<int64_t> limits_;
  std::vector<int32_t> at_limit_;  // by limit: index of layouts_, or -1
  int32_t least_ = -1;
  std::vector<Layout> layouts_;
  Plan start_;
};

}  // namespace

Plan make_plan(const Program& program, const HardwareSpec& spec, int64_t budget) {
  check_spec(spec);
  if (budget < 1 || budget > kMostBudget) fail(ErrorKind::kValue, "budget is ", budget, " bytes, expected 1 .. 2^40");
  Plan plan;
  if (Family(program, spec, budget).best(budget, &plan)) return plan;
  fail(ErrorKind::kMemory, "program ", program.name, " needs at least ", smallest_budget(program, spec), " bytes of fast memory on ",
       spec.name, ", the budget is ", budget);
}

int64_t smallest_budget(const Program& program, const HardwareSpec& spec) {
  check_spec(spec);
  return std::max<int64_t>(Family(program, spec, kMostBudget).smallest_budget(), 1);
}

}  // namespace hvl

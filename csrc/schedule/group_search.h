// Cuts a Program into groups and blocks of rows, by dynamic programming over ranges of ops.
//
// For a choice of resident buffers and ring slot, every range of ops that may form a group has, for each candidate block of rows, a
// need of fast memory and an estimated time. Times add up along the Program; needs do not. So for a limit on fast memory the best cut
// into groups is a shortest path, and the least limit for which there is a cut is a bottleneck path.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/schedule/cost.h"
#include "csrc/schedule/placement.h"

namespace hvl {

class GroupSearch {
 public:
  GroupSearch(const Program& program, const HardwareSpec& spec);

  const std::vector<std::vector<bool>>& resident_sets() const { return resident_sets_; }
  const std::vector<int64_t>& slots() const { return slots_; }

  // Fills the tables for one of resident_sets(); the calls below are for it.
  void use_residents(const std::vector<bool>& resident);
  // The least fast memory with a ring of slots()[slot], or -1 when some op's blocks do not fit the ring.
  int64_t least_bytes(size_t slot);
  // The fastest cut within `limit` bytes; false when there is none.
  bool best(size_t slot, int64_t limit, Layout* layout);

 private:
  // Consecutive ops of a section with the same rows: the candidates for the rows of a block are the same for all of them.
  struct Run {
    int32_t first_op = 0, op_count = 0, section = 0;
    std::vector<int32_t> blocks;  // descending
  };
  // One op's use of a buffer, by candidate.
  struct Use {
    int32_t op = 0;
    bool reads = false, writes = false;
    std::vector<int64_t> window;          // bytes
    std::vector<double> load_s, store_s;  // through a window, all blocks together; in place: what DDR adds
  };
  // One op, by candidate (and slot): see estimate().
  struct OpCosts {
    std::vector<int64_t> scratch[2];  // [0]: K/V, if any, in fast memory; [1]: from DDR
    std::vector<double> seconds[2];   // [candidate * slots + slot]
  };
  struct Option {
    int64_t bytes;  // without the ring
    double transfer_s;
  };

  bool may_share(int32_t a, int32_t b) const;
  void find_runs();
  void find_slots();
  void find_residents();
  void measure_op(int32_t op, const Run& run);
  void measure_uses(BufferId buffer);
  double estimate(const Plan& mock, int32_t op, int32_t block_rows, bool streams_kv, const PlanOp& blocks, int64_t slot_bytes) const;
  Option option(int32_t first, int32_t last, size_t candidate) const;
  bool streams_kv(int32_t op) const;
  size_t pair(int32_t first, int32_t last) const { return pairs_[last] + size_t(first - low_[last]); }

  const Program& program_;
  const HardwareSpec& spec_;
  RunScalars largest_;
  Cached cached_;                       // of plans that need no memory of their own: the same for every group
  std::vector<Lifetime> lives_;
  std::vector<Run> runs_;
  std::vector<int32_t> run_of_;         // by op
  std::vector<int32_t> low_;            // by op: the first op that may be in one group with it
  std::vector<size_t> pairs_;           // by op: index of (low_[op], op) in options_
  std::vector<int64_t> smallest_;       // by op: smallest_stream
  std::vector<OpCosts> costs_;          // by op
  std::vector<std::vector<Use>> uses_;  // by buffer
  std::vector<std::vector<bool>> resident_sets_;
  std::vector<int64_t> slots_;

  std::vector<bool> resident_;
  std::vector<std::vector<Option>> options_;  // by pair, then candidate
  // By candidate * slots + slot: seconds of the ops before op o of its run, and how many of them cannot run so.
  std::vector<std::vector<double>> prefix_;
  std::vector<std::vector<int32_t>> blocked_;
  mutable std::vector<int64_t> change_;  // scratch of option(): what begins and ends at each op
};

}  // namespace hvl

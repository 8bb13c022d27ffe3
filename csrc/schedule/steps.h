// The order of a Plan: which kernel step follows which, and the transfers each needs. The executor, the cost model, the traces and the tests
// all walk a Plan through here, so that what is predicted is what runs.
//
// For every section, repetition, group, block of rows and op: the op's windows are loaded (those it is the first of the block to read and that
// live elsewhere) and its scratch; its kernel runs in one or more steps, each with its own streamed block in the ring; its scratch and the
// windows it is the last to write are stored. On a device that is not staged there are no transfers.
//
// Streamed blocks take the ring's slots in turn; one larger than a slot takes both. The block of the next streaming step is fetched while a
// step runs, if it has a slot of its own and nothing still to come writes what it reads (the first K/V block of an attention is not fetched ahead).
#pragma once

#include <array>
#include <cstdint>

#include "csrc/schedule/access.h"
#include "csrc/schedule/plan.h"

namespace hvl {

// What changes from run to run and what the order depends on.
struct RunScalars {
  int32_t rows = 0;      // of dynamic buffers
  int32_t position = 0;  // of row 0 in the KV cache
};
RunScalars largest_run(const Program& program);  // all rows, at the end of the KV cache

// One call of a kernel.
struct Step {
  int32_t section = 0, repetition = 0, group = 0, block = 0, op = 0;
  int32_t row_begin = 0, row_end = 0;    // of the op's rows: the block's, or (kEmbed on a staged device) one at a time
  int32_t unit_begin = 0, unit_end = 0;  // kLinear: blocks of 32 outputs; kAttention: K/V heads
  int32_t key_begin = 0, key_end = 0;    // kAttention
  bool first = false, last = false;      // of the op in this block
};

class StepCursor {
 public:
  StepCursor(const Program& program, const Plan& plan, const RunScalars& run);
  bool done() const { return done_; }
  const Step& step() const { return step_; }
  void next();

 private:
  void enter();
  bool has_inner() const;     // whether the op of this block has steps after the current one
  const Program* program_;
  const Plan* plan_;
  RunScalars run_;
  Step step_;
  bool done_ = false;
};

// A copy between DDR and fast memory of `rows` runs of `row_bytes` bytes.
struct Transfer {
  enum class Source : uint8_t { kBuffer, kWeight, kKeys, kValues, kImage } source = Source::kBuffer;
  bool store = false;         // from fast memory to DDR
  int32_t index = 0;          // buffer; weight slot of the op's section
  int32_t repetition = 0;     // for weights and states
  int64_t offset = 0;         // bytes from the start of the source
  int64_t stride = 0;         // bytes, in DDR, from one run to the next
  int64_t rows = 1;
  int64_t row_bytes = 0;
  int64_t fast_offset = 0;
  int64_t fast_stride = 0;
  int64_t bytes() const { return rows * row_bytes; }
};

struct TransferList {
  static constexpr int kMax = 12;
  std::array<Transfer, kMax> items;
  int count = 0;
  void add(const Transfer& t);
  const Transfer* begin() const { return items.data(); }
  const Transfer* end() const { return items.data() + count; }
};

// Image and table of a kPatchify live in the op's scratch; the image's rectangle is known at run time only (its extent here: the whole tile).
// Empty on devices that are not staged.
TransferList loads_before(const Program& program, const Plan& plan, const Step& step, const RunScalars& run);  // step.first
TransferList stores_after(const Program& program, const Plan& plan, const Step& step, const RunScalars& run);  // step.last
// The step's block in the ring; fast_offset counts from the start of the slot. Of a kEmbed step the offset is that of token id 0.
TransferList streamed(const Program& program, const Plan& plan, const Step& step);
bool may_prefetch(const Program& program, const Step& step);  // its block, before the step before it is done

// The block of rows of the step's group, and the rows of a buffer that the group's ops touch for it: what its window holds.
int32_t key_limit(const Program& program, const Step& step, const RunScalars& run);  // kAttention: end of the keys its rows see
RowRange block_range(const Program& program, const Plan& plan, const Step& step, const RunScalars& run);
RowRange window_rows(const Program& program, const Plan& plan, int32_t group, BufferId buffer, RowRange block);

// Bytes: the largest streamed block of an op, and its scratch, for given blocks.
int64_t streamed_bytes(const Program& program, const Plan& plan, int32_t op);
int64_t scratch_bytes(const Program& program, const Plan& plan, int32_t op);

}  // namespace hvl

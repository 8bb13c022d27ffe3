// Where the operands of one kernel step are.
#pragma once

#include "csrc/runtime/executor.h"
#include "csrc/schedule/access.h"
#include "kernels/quantize/quantize.h"

namespace hvl {

// A pointer that stands for element 0 of something of which only later elements are there. Kernels touch only those.
template <typename T>
T* virtual_base(T* there, int64_t elements) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(there) - uintptr_t(elements * int64_t(sizeof(T))));
}

struct Executor::Frame {
  const Executable& executable;
  const RunArgs& args;
  const RunMemory& memory;
  Step step;
  RowRange block = {0, 0};
  const Op* quantize = nullptr;            // of the next step, which is done with this one
  const TransferList* streamed = nullptr;  // staged: what the ring holds for this step, from
  const uint8_t* ring = nullptr;           // here on

  const Program& program() const { return executable.program; }
  const Plan& plan() const { return executable.plan; }
  const Op& op() const { return program().ops[step.op]; }
  const Buffer& desc(BufferId id) const { return program().buffers[id]; }
  int32_t rows() const { return step.row_end - step.row_begin; }
  int32_t first_row() const { return step.row_begin; }
  bool staged() const { return plan().staged; }

  const Window* window(BufferId id) const {
    const int16_t w = executable.windows[size_t(step.group) * program().buffers.size() + id];
    return w < 0 ? nullptr : &plan().windows[w];
  }
  // The whole buffer, where the kernel may read it in place.
  uint8_t* home(BufferId id) const {
    const BufferPlan& b = plan().buffers[id];
    if (b.home == Home::kBound) return static_cast<uint8_t*>(args.bound[id]);
    return (b.home == Home::kResident ? memory.fast : memory.ddr) + b.offset;
  }
  // Row 0 of a buffer, perhaps virtually: kernels touch only the rows of this step.
  template <typename T>
  T* whole(BufferId id) const {
    if (id == kNone) return nullptr;
    const Window* w = window(id);
    if (!w) return reinterpret_cast<T*>(home(id));
    const int32_t begin = staged() ? window_rows(program(), plan(), step.group, id, block).begin : block.begin;
    return reinterpret_cast<T*>(virtual_base(memory.fast + w->offset, begin * rows_bytes(desc(id), 1)));
  }
  // The step's first row.
  template <typename T>
  T* at(BufferId id) const {
    return id == kNone ? nullptr : whole<T>(id) + int64_t(first_row()) * desc(id).cols;
  }
  QuantizedRows quantized(BufferId id) const {
    const Buffer& b = desc(id);
    const Window* w = window(id);
    const int32_t all = w ? block.end - block.begin : b.dynamic_rows ? args.run.rows : b.max_rows;
    const int32_t skip = first_row() - (w ? block.begin : 0);
    QuantizedRows q = quantized_rows_at(w ? memory.fast + w->offset : home(id), all, b.cols, b.group_size, b.bits);
    const int64_t groups = quantized_groups(b.cols, b.group_size);
    q.q += skip * groups * b.group_size * (b.bits / 8);
    q.scales += skip * groups;
    q.sums += skip * groups * 2;
    q.rows = rows();
    return q;
  }
  uint8_t* scratch() const { return memory.fast + plan().ops[step.op].scratch_offset; }

  const ResolvedWeight& resolved(WeightId slot) const {
    const ProgramSection& section = program().sections[step.section];
    return executable.weights[section.first_weight + size_t(step.repetition) * section.weight_slots + slot];
  }
  const uint8_t* in_ring(WeightId slot) const {
    for (const Transfer& t : *streamed) {
      if (t.source == Transfer::Source::kWeight && t.index == slot) return ring + t.fast_offset;
    }
    return nullptr;
  }
  template <typename T>
  const T* array(WeightId slot) const {
    if (slot == kNone) return nullptr;
    return static_cast<const T*>(staged() ? static_cast<const void*>(in_ring(slot)) : resolved(slot).data);
  }
  // A packed linear of which blocks from `first_block` on are there.
  LinearWeight linear(WeightId slot, int32_t first_block) const {
    LinearWeight w = resolved(slot).linear;
    if (staged()) w.data = virtual_base(in_ring(slot), first_block * int64_t(linear_block_bytes(w)));
    return w;
  }
  VrcRequant requant() const {
    return {array<int32_t>(op().weight[1]), array<int32_t>(op().weight[2]), array<int32_t>(op().weight[3])};
  }
  // K/V in a buffer: keys, then values.
  KvCache kv_in_buffer(uint8_t* base, const Buffer& b, int32_t kv_heads, int32_t capacity) const {
    return {base, base + kv_side_bytes(kv_heads, b.group_size, capacity, b.bits), kv_heads, b.group_size, capacity, b.bits};
  }
};

}  // namespace hvl

#include "csrc/runtime/executor.h"

namespace hvl {

// Operands of the ops of one repetition of a section.
struct Executor::Frame {
  const Executable& executable;
  const RunArgs& args;
  uint8_t* arena;
  const ResolvedWeight* weights;  // of this repetition, by slot
  int32_t repetition;

  const Buffer& desc(BufferId id) const { return executable.program.buffers[id]; }
  template <typename T>
  T* buffer(BufferId id) const {
    if (id == kNone) return nullptr;
    const size_t offset = executable.plan.offsets[id];
    return static_cast<T*>(offset == kNotPlaced ? args.bound[id] : static_cast<void*>(arena + offset));
  }
  int32_t rows(BufferId id) const {
    const Buffer& b = desc(id);
    return b.dynamic_rows ? args.rows : b.max_rows;
  }
  QuantizedRows quantized(BufferId id) const {
    const Buffer& b = desc(id);
    return quantized_rows_at(buffer<void>(id), rows(id), b.cols, b.group_size, b.bits);
  }
  const LinearWeight& linear(WeightId slot) const { return weights[slot].linear; }
  template <typename T>
  const T* array(WeightId slot) const {
    return slot == kNone ? nullptr : static_cast<const T*>(weights[slot].data);
  }
  VrcRequant requant(const Op& op) const {
    return {array<int32_t>(op.weight[1]), array<int32_t>(op.weight[2]), array<int32_t>(op.weight[3])};
  }
  // The KV cache an op reads or writes: a bound one (its layer's), or a tile's own in the arena.
  KvCache kv(const Op& op, BufferId local, int32_t kv_heads) const {
    if (op.state != kNone) return args.states[repetition];
    const Buffer& b = desc(local);
    const int32_t capacity = b.max_rows / 2;
    float* k = buffer<float>(local);
    return {k, k + size_t(capacity) * b.cols, kv_heads, b.cols / kv_heads, capacity, 32};
  }
};

template <typename Args>
void Executor::launch(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, int32_t units) const {
  pool_.parallel_for(units, [&](int32_t begin, int32_t end) { kernel(args, begin, end); });
}

bool Executor::run(const Executable& executable, const RunArgs& args, uint8_t* arena, const CancelCheck& cancel) const {
  const Program& program = executable.program;
  for (const ProgramSection& section : program.sections) {
    for (int32_t r = 0; r < section.repeat; ++r) {
      if (cancel.requested && cancel.requested(cancel.context)) return false;
      const ResolvedWeight* weights = executable.weights.data() + section.first_weight + size_t(r) * section.weight_slots;
      const Frame frame{executable, args, arena, weights, r};
      for (int32_t o = 0; o < section.op_count; ++o) run_op(program.ops[section.first_op + o], frame);
    }
  }
  return true;
}

void Executor::run_op(const Op& op, const Frame& f) const {
  switch (op.kind) {
    case OpKind::kEmbed: {
      const int32_t rows = f.rows(op.out);
      const EmbedArgs a{f.linear(op.weight[0]), f.buffer<int32_t>(op.in[0]), f.buffer<float>(op.out), f.desc(op.out).cols, rows};
      return launch(kernels_.embed, a, rows);
    }
    case OpKind::kNorm: {
      const int32_t rows = f.rows(op.out), cols = f.desc(op.out).cols;
      const NormArgs a{f.buffer<float>(op.in[0]), cols, f.array<float>(op.weight[0]), f.array<float>(op.weight[1]),
                       f.buffer<float>(op.out), cols, rows, cols, op.f[0], NormKind(op.i[0])};
      return launch(kernels_.norm, a, rows);
    }
    case OpKind::kQuantize: {
      const QuantizeArgs a{f.buffer<float>(op.in[0]), f.desc(op.in[0]).cols, f.quantized(op.out)};
      return launch(kernels_.quantize, a, a.out.rows);
    }
    case OpKind::kQuantizeI16: {
      const QuantizeI16Args a{f.buffer<int16_t>(op.in[0]), op.f[0], f.quantized(op.out)};
      return launch(kernels_.quantize_i16, a, a.out.rows);
    }
    case OpKind::kLinear: {
      const float* residual = op.in[1] != kNone ? f.buffer<float>(op.in[1]) : f.array<float>(op.weight[2]);
      const LinearArgs a{f.quantized(op.in[0]), f.linear(op.weight[0]), f.array<float>(op.weight[1]), residual,
                         f.buffer<float>(op.out), f.desc(op.out).cols};
      return launch(kernels_.linear, a, linear_row_blocks(a.weight));
    }
    case OpKind::kActivation: {
      const ActivationArgs a{f.buffer<float>(op.in[0]), f.buffer<float>(op.out), f.rows(op.out), f.desc(op.out).cols,
                             ActivationKind(op.i[0])};
      return launch(kernels_.activation, a, a.rows);
    }
    case OpKind::kSiluMul: {
      const SiluMulArgs a{f.buffer<float>(op.in[0]), f.buffer<float>(op.in[1]), f.buffer<float>(op.out), f.rows(op.out),
                          f.desc(op.out).cols};
      return launch(kernels_.silu_mul, a, a.rows);
    }
    case OpKind::kRope: {
      const RopeArgs a{f.buffer<float>(op.out), f.desc(op.out).cols, f.array<float>(op.weight[0]), op.f[0], f.buffer<float>(op.in[1]),
                       f.buffer<float>(op.in[2]), f.args.position, f.rows(op.out), op.i[0], op.i[1]};
      return launch(kernels_.rope, a, a.rows);
    }
    case OpKind::kKvStore: {
      const KvStoreArgs a{f.buffer<float>(op.in[0]), f.buffer<float>(op.in[1]), f.desc(op.in[0]).cols, f.rows(op.in[0]),
                          op.state == kNone ? 0 : f.args.position, f.kv(op, op.out, op.i[0])};
      return launch(kernels_.kv_store, a, op.i[0]);
    }
    case OpKind::kAttention: {
      const int32_t rows = f.rows(op.out), cols = f.desc(op.out).cols;
      const int32_t position = op.state == kNone ? 0 : f.args.position;
      const AttentionArgs a{f.buffer<float>(op.in[0]), cols, f.buffer<float>(op.out), cols, f.kv(op, op.in[1], op.i[2]), rows, op.i[0],
                            position, position + rows, op.i[1] != 0, op.f[0]};
      return launch(kernels_.attention, a, attention_units(rows, a.heads));
    }
    case OpKind::kPixelShuffle: {
      const PixelShuffleArgs a{f.buffer<float>(op.in[0]), f.buffer<float>(op.out), op.i[0], op.i[1], f.desc(op.in[0]).cols, op.i[2]};
      return launch(kernels_.pixel_shuffle, a, f.rows(op.out));
    }
    case OpKind::kPatchify: {
      const RunArgs& r = f.args;
      const PatchifyArgs a{f.buffer<uint8_t>(op.in[0]), r.image_height, r.image_width, r.tile_top, r.tile_left, op.i[0], op.i[1],
                           op.i[2], f.buffer<int16_t>(op.in[1]), f.buffer<int16_t>(op.out)};
      return launch(kernels_.patchify, a, a.grid_h);
    }
    case OpKind::kVrcStem: {
      const VrcStemArgs a{f.buffer<uint8_t>(op.in[0]), f.buffer<uint8_t>(op.out), op.i[0], op.i[1], op.i[2], op.i[3], op.i[4],
                          f.array<int8_t>(op.weight[0]), f.requant(op)};
      return launch(kernels_.vrc_stem, a, a.out_height);
    }
    case OpKind::kVrcDepthwise: {
      const VrcDepthwiseArgs a{f.buffer<uint8_t>(op.in[0]), f.buffer<uint8_t>(op.out), op.i[0], op.i[1], op.i[2], op.i[3], op.i[4],
                               op.i[5], op.i[6], f.array<int8_t>(op.weight[0]), f.requant(op)};
      return launch(kernels_.vrc_depthwise, a, a.out_height);
    }
    case OpKind::kVrcPointwise: {
      const VrcPointwiseArgs a{f.buffer<uint8_t>(op.in[0]), f.buffer<uint8_t>(op.out), op.i[0], op.i[1], op.i[2], op.i[3],
                               f.array<int8_t>(op.weight[0]), f.requant(op), op.i[4], f.buffer<uint8_t>(op.in[1]), op.i[5], op.i[6]};
      return launch(kernels_.vrc_pointwise, a, vrc_pointwise_units(a));
    }
    case OpKind::kVrcPool: {
      const VrcPoolArgs a{f.buffer<uint8_t>(op.in[0]), f.buffer<uint8_t>(op.in[1]), f.buffer<uint8_t>(op.out), op.i[0], op.i[1],
                          op.i[2]};
      return launch(kernels_.vrc_pool, a, a.channels / kVrcLanes);
    }
  }
}

}  // namespace hvl

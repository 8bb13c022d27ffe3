#include "csrc/program/builder.h"

#include <utility>

#include "csrc/base/error.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/norm/norm.h"

namespace hvl {

ProgramBuilder::ProgramBuilder(std::string name, int32_t activation_bits) : activation_bits_(activation_bits) {
  program_.name = std::move(name);
}

const Buffer& ProgramBuilder::at(BufferId id) const {
  if (id < 0 || size_t(id) >= program_.buffers.size()) {
    fail(ErrorKind::kRuntime, "program ", program_.name, ": op uses buffer ", id, ", which does not exist");
  }
  return program_.buffers[id];
}

BufferId ProgramBuilder::add(Space space, std::string name, DType dtype, int32_t rows, int32_t cols, bool dynamic) {
  if (rows <= 0 || cols <= 0) {
    fail(ErrorKind::kRuntime, "program ", program_.name, ": buffer ", name, " has shape (", rows, ", ", cols, ")");
  }
  Buffer b;
  b.name = std::move(name);
  b.space = space;
  b.dtype = dtype;
  b.max_rows = rows;
  b.cols = cols;
  b.dynamic_rows = dynamic;
  program_.buffers.push_back(std::move(b));
  return BufferId(program_.buffers.size() - 1);
}

BufferId ProgramBuilder::bound(std::string name, DType dtype, int32_t max_rows, int32_t cols, bool dynamic_rows) {
  return add(Space::kBound, std::move(name), dtype, max_rows, cols, dynamic_rows);
}
BufferId ProgramBuilder::like(BufferId rows_of, std::string name, int32_t cols, DType dtype) {
  const Buffer& b = at(rows_of);
  return add(Space::kArena, std::move(name), dtype, b.max_rows, cols, b.dynamic_rows);
}
KvRef ProgramBuilder::kv_state(int32_t kv_heads, int32_t head_dim, int32_t context_length, int32_t bits) {
  KvRef kv;
  kv.state = StateId(program_.states.size());
  program_.states.push_back({kv_heads, head_dim, kv_padded_keys(context_length), bits});
  kv.kv_heads = kv_heads;
  return kv;
}
KvRef ProgramBuilder::kv_buffer(int32_t kv_heads, int32_t head_dim, int32_t rows, int32_t bits) {
  KvRef kv;
  kv.buffer = add(Space::kArena, "kv", DType::kKv, kv_padded_keys(rows), kv_heads * head_dim, false);
  program_.buffers[kv.buffer].group_size = head_dim;
  program_.buffers[kv.buffer].bits = bits;
  kv.kv_heads = kv_heads;
  return kv;
}

void ProgramBuilder::begin_section(std::string name, int32_t repeat) {
  ProgramSection s;
  s.name = std::move(name);
  s.first_op = int32_t(program_.ops.size());
  s.repeat = repeat;
  program_.sections.push_back(std::move(s));
  slots_.clear();
  open_ = true;
}

void ProgramBuilder::end_section() {
  ProgramSection& s = program_.sections.back();
  s.op_count = int32_t(program_.ops.size()) - s.first_op;
  s.weight_slots = int32_t(slots_.size());
  s.first_weight = int32_t(program_.weights.size());
  for (int32_t r = 0; r < s.repeat; ++r) {
    for (std::string name : slots_) {
      if (const size_t hole = name.find("{}"); hole != std::string::npos) name.replace(hole, 2, std::to_string(r));
      program_.weights.push_back(std::move(name));
    }
  }
  open_ = false;
}

WeightId ProgramBuilder::weight(const std::string& name) {
  if (name.empty()) return kNone;
  slots_.push_back(name);
  return WeightId(slots_.size() - 1);
}

BufferId ProgramBuilder::embed(BufferId ids, WeightId table, BufferId out) {
  Op op;
  op.kind = OpKind::kEmbed;
  op.in[0] = ids;
  op.weight[0] = table;
  op.out = out;
  program_.ops.push_back(op);
  return out;
}

BufferId ProgramBuilder::rms_norm(BufferId x, WeightId weight, float eps) {
  Op op;
  op.kind = OpKind::kNorm;
  op.in[0] = x;
  op.weight[0] = weight;
  op.out = like(x, "norm", at(x).cols);
  op.i[0] = int32_t(NormKind::kRms);
  op.f[0] = eps;
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::layer_norm(BufferId x, WeightId weight, WeightId bias, float eps, BufferId out) {
  Op op;
  op.kind = OpKind::kNorm;
  op.in[0] = x;
  op.weight = {weight, bias, kNone, kNone};
  op.out = out == kNone ? like(x, "norm", at(x).cols) : out;
  op.i[0] = int32_t(NormKind::kLayer);
  op.f[0] = eps;
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::quantize(BufferId x, int32_t group_size) {
  Op op;
  op.kind = OpKind::kQuantize;
  op.in[0] = x;
  op.out = like(x, at(x).name + ".q", at(x).cols, DType::kQuantized);
  program_.buffers[op.out].group_size = group_size;
  program_.buffers[op.out].bits = activation_bits_;
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::quantize_i16(BufferId x, int32_t group_size, float scale) {
  Op op;
  op.kind = OpKind::kQuantizeI16;
  op.in[0] = x;
  op.out = like(x, at(x).name + ".q", at(x).cols, DType::kQuantized);
  program_.buffers[op.out].group_size = group_size;
  program_.buffers[op.out].bits = 16;
  op.f[0] = scale;
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::linear(BufferId x, WeightId weight, const LinearShape& shape, WeightId bias, BufferId residual,
                                BufferId out, WeightId constant_residual) {
  const Buffer& in = at(x);
  if (in.dtype != DType::kQuantized || in.cols != shape.cols || in.group_size != shape.group_size) {
    fail(ErrorKind::kRuntime, "program ", program_.name, ": linear (", shape.rows, ", ", shape.cols, ") in groups of ",
         shape.group_size, " cannot take buffer ", in.name, " of ", in.cols, " columns in groups of ", in.group_size);
  }
  Op op;
  op.kind = OpKind::kLinear;
  op.in = {x, residual, kNone};
  op.weight = {weight, bias, constant_residual, kNone};
  op.out = out == kNone ? like(x, "linear", shape.rows) : out;
  if (at(op.out).cols != shape.rows) {
    fail(ErrorKind::kRuntime, "program ", program_.name, ": linear with ", shape.rows, " outputs into buffer ", at(op.out).name,
         " of ", at(op.out).cols, " columns");
  }
  program_.ops.push_back(op);
  return op.out;
}

void ProgramBuilder::activation(BufferId x, int32_t kind) {
  Op op;
  op.kind = OpKind::kActivation;
  op.in[0] = x;
  op.out = x;
  op.i[0] = kind;
  program_.ops.push_back(op);
}

void ProgramBuilder::silu_mul(BufferId gate, BufferId up) {
  Op op;
  op.kind = OpKind::kSiluMul;
  op.in = {gate, up, kNone};
  op.out = gate;
  program_.ops.push_back(op);
}

void ProgramBuilder::rope(BufferId x, BufferId cos, BufferId sin, WeightId norm, int32_t heads, float eps) {
  Op op;
  op.kind = OpKind::kRope;
  op.in = {x, cos, sin};
  op.out = x;
  op.weight[0] = norm;
  op.i[0] = heads;
  op.i[1] = at(x).cols / heads;
  op.f[0] = eps;
  program_.ops.push_back(op);
}

void ProgramBuilder::kv_store(BufferId k, BufferId v, const KvRef& kv) {
  Op op;
  op.kind = OpKind::kKvStore;
  op.in = {k, v, kNone};
  op.out = kv.buffer;
  op.state = kv.state;
  op.i[0] = kv.kv_heads;
  program_.ops.push_back(op);
}

BufferId ProgramBuilder::attention(BufferId q, const KvRef& kv, int32_t heads, bool causal, float scale) {
  Op op;
  op.kind = OpKind::kAttention;
  op.in = {q, kv.buffer, kNone};
  op.state = kv.state;
  op.out = like(q, "attention", at(q).cols);
  op.i[0] = heads;
  op.i[1] = causal;
  op.i[2] = kv.kv_heads;
  op.i[3] = activation_bits_;
  op.f[0] = scale;
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::pixel_shuffle(BufferId x, int32_t grid_h, int32_t grid_w, int32_t factor) {
  Op op;
  op.kind = OpKind::kPixelShuffle;
  op.in[0] = x;
  op.out = add(Space::kArena, "shuffled", DType::kF32, grid_h / factor * (grid_w / factor), at(x).cols * factor * factor, false);
  op.i = {grid_h, grid_w, factor};
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::patchify(BufferId image, BufferId table, int32_t grid_h, int32_t grid_w, int32_t patch) {
  Op op;
  op.kind = OpKind::kPatchify;
  op.in = {image, table, kNone};
  op.out = add(Space::kArena, "patches", DType::kI16, grid_h * grid_w, 3 * patch * patch, false);
  op.i = {grid_h, grid_w, patch};
  program_.ops.push_back(op);
  return op.out;
}

BufferId ProgramBuilder::append(Op op, const std::string& out_name, DType dtype, int32_t rows, int32_t cols) {
  if (op.out == kNone) op.out = add(Space::kArena, out_name, dtype, rows, cols, false);
  program_.ops.push_back(op);
  return op.out;
}

Program ProgramBuilder::finish() {
  if (open_) fail(ErrorKind::kRuntime, "program ", program_.name, ": a section was left open");
  return std::move(program_);
}

}  // namespace hvl

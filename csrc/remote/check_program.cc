#include "csrc/remote/check_program.h"

#include <cmath>

#include "csrc/base/error.h"
#include "csrc/runtime/executable.h"
#include "csrc/schedule/access.h"
#include "kernels/activation/activation.h"
#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/vrc/vrc.h"

namespace hvl {
namespace {

constexpr size_t kMostOps = 4096, kMostSections = 256, kMostWeights = 1 << 16, kMostStates = 16;
constexpr int32_t kMostRepeats = 4096, kMostSide = 1 << 20;
constexpr int64_t kMostElements = int64_t(1) << 28;  // of a buffer: bytes and what rounds them up stay below 2^31
constexpr int64_t kMostWeightBytes = int64_t(1) << 30;
constexpr int32_t kMostNormed = 32768;

bool within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }
bool positive(float value) { return std::isfinite(value) && value > 0; }

class Checker {
 public:
  explicit Checker(const Program& program) : p_(program) {}

  std::string fault() {
    if (!sizes()) return joined("program ", p_.name, ": more ops, buffers, sections, weights or states than are read, or none");
    for (const Buffer& b : p_.buffers) {
      if (!buffer(b)) return joined("program ", p_.name, ": buffer ", b.name, " is not valid");
    }
    for (const WeightShape& w : p_.shapes) {
      if (!shape(w)) return joined("program ", p_.name, ": a weight's shape is not valid");
    }
    for (const StateShape& s : p_.states) {
      if (!state(s)) return joined("program ", p_.name, ": a KV cache's shape is not valid");
    }
    if (!sections()) return joined("program ", p_.name, ": its sections do not hold its ops and weights");
    for (size_t s = 0; s < p_.sections.size(); ++s) {
      section_ = &p_.sections[s];
      for (int32_t o = section_->first_op; o < section_->first_op + section_->op_count; ++o) {
        op_ = &p_.ops[o];
        if (!ids() || !op()) return joined("program ", p_.name, ": op ", o, " of kind ", int(op_->kind), " has operands that it cannot take");
      }
    }
    return {};
  }

 private:
  bool sizes() const {
    return within(int64_t(p_.ops.size()), 1, kMostOps) && within(int64_t(p_.buffers.size()), 1, kMaxBuffers) &&
           within(int64_t(p_.sections.size()), 1, kMostSections) && p_.weights.size() <= kMostWeights && p_.shapes.size() == p_.weights.size() &&
           p_.states.size() <= kMostStates;
  }

  static bool buffer(const Buffer& b) {
    if (b.space > Space::kBound || b.dtype > DType::kKv || !within(b.max_rows, 1, kMostSide) || !within(b.cols, 1, kMostSide)) return false;
    if (int64_t(b.max_rows) * b.cols > kMostElements) return false;
    if (b.dtype == DType::kQuantized) {
      const bool group = linear_group_fits({nullptr, 1, 1, 8, b.group_size, 16, 0});
      return group && (b.bits == 16 || b.bits == 8) && b.space == Space::kArena && int64_t(b.max_rows) * (b.cols + b.group_size) <= kMostElements;
    }
    if (b.dtype != DType::kKv) return true;
    return within(b.group_size, 1, kAttentionMaxHeadDim) && b.cols % b.group_size == 0 && b.bits == 8 && b.max_rows % kKvKeyBlock == 0 &&
           !b.dynamic_rows && b.space == Space::kArena && 2 * kv_side_bytes(b.cols / b.group_size, b.group_size, b.max_rows, b.bits) <= 4 * kMostElements;
  }

  static bool shape(const WeightShape& w) {
    if (!within(int64_t(w.bytes), 0, kMostWeightBytes)) return false;
    if (w.rows == 0) return true;
    const LinearWeight l{nullptr, w.rows, w.cols, w.bits, w.group_size, w.scale_bits, w.zero_points};
    if (!within(w.rows, 1, kMostSide) || !within(w.cols, 1, kMostSide) || (w.bits != 4 && w.bits != 8) || !linear_group_fits(l)) return false;
    if ((w.scale_bits != 16 && w.scale_bits != 32) || !within(w.zero_points, 0, 1)) return false;
    return int64_t(linear_group_bytes(l)) * linear_groups(l) * linear_row_blocks(l) == int64_t(w.bytes);
  }

 public:
  static bool state(const StateShape& s) {
    if (!within(s.kv_heads, 1, 4096) || !within(s.head_dim, 1, kAttentionMaxHeadDim) || !within(s.capacity, 1, kMostSide)) return false;
    return s.capacity % kKvKeyBlock == 0 && s.bits == 8 && kv_side_bytes(s.kv_heads, s.head_dim, s.capacity, s.bits) <= 2 * kMostElements;
  }

 private:
  bool sections() const {
    int64_t op = 0;
    for (const ProgramSection& s : p_.sections) {
      if (s.first_op != op || !within(s.op_count, 1, int64_t(p_.ops.size()) - op) || !within(s.repeat, 1, kMostRepeats)) return false;
      if (!within(s.weight_slots, 0, kMostWeights) || !within(s.first_weight, 0, kMostWeights)) return false;
      if (s.first_weight + int64_t(s.repeat) * s.weight_slots > int64_t(p_.weights.size())) return false;
      op += s.op_count;
    }
    return op == int64_t(p_.ops.size());
  }

  bool ids() const {
    if (op_->kind > OpKind::kVrcPool) return false;
    for (BufferId id : op_->in) {
      if (!within(id, kNone, int64_t(p_.buffers.size()) - 1)) return false;
    }
    for (WeightId slot : op_->weight) {
      if (!within(slot, kNone, section_->weight_slots - 1)) return false;
    }
    const bool none = op_->kind == OpKind::kKvStore && op_->state != kNone;
    const bool stateful = op_->kind == OpKind::kKvStore || op_->kind == OpKind::kAttention;
    return within(op_->state, kNone, stateful ? int64_t(p_.states.size()) - 1 : kNone) &&
           (none ? op_->out == kNone : within(op_->out, 0, int64_t(p_.buffers.size()) - 1));
  }

  // Operand k (3: the output) holds elements of a type in columns, or is anything else.
  const Buffer* operand(int k, DType dtype, int64_t cols) const {
    const BufferId id = k == 3 ? op_->out : op_->in[k];
    if (id == kNone) return nullptr;
    const Buffer& b = p_.buffers[id];
    return b.dtype == dtype && (cols == 0 || b.cols == cols) ? &b : nullptr;
  }
  static bool same_rows(const Buffer* a, const Buffer* b) { return a->max_rows == b->max_rows && a->dynamic_rows == b->dynamic_rows; }

  // The weight of a slot is, in every repetition, an array of at least so many bytes.
  bool array(int slot, int64_t bytes) const {
    if (op_->weight[slot] == kNone) return false;
    for (int32_t r = 0; r < section_->repeat; ++r) {
      const WeightShape& w = p_.shape(*section_, r, op_->weight[slot]);
      if (w.rows != 0 || int64_t(w.bytes) < bytes) return false;
    }
    return true;
  }
  bool array_or_none(int slot, int64_t bytes) const { return op_->weight[slot] == kNone || array(slot, bytes); }
  bool linear_weight(int slot, int32_t rows, int32_t cols, int32_t group_size) const {
    if (op_->weight[slot] == kNone) return false;
    for (int32_t r = 0; r < section_->repeat; ++r) {
      const WeightShape& w = p_.shape(*section_, r, op_->weight[slot]);
      if (w.rows == 0 || (rows > 0 && w.rows != rows) || w.cols != cols || (group_size > 0 && w.group_size != group_size)) return false;
    }
    return true;
  }

  bool op() const {
    switch (op_->kind) {
      case OpKind::kEmbed: {
        const Buffer *ids = operand(0, DType::kI32, 1), *out = operand(3, DType::kF32, 0);
        return ids && out && same_rows(ids, out) && ids->space == Space::kBound && linear_weight(0, 0, out->cols, 0);
      }
      case OpKind::kNorm: {
        const Buffer *out = operand(3, DType::kF32, 0), *x = out ? operand(0, DType::kF32, out->cols) : nullptr;
        if (!x || !same_rows(x, out) || out->cols > kMostNormed || !positive(op_->f[0]) || op_->f[0] > 1) return false;
        if (op_->i[0] != int32_t(NormKind::kRms) && op_->i[0] != int32_t(NormKind::kLayer)) return false;
        return array(0, out->cols * 4) && (op_->i[0] == int32_t(NormKind::kLayer) ? array(1, out->cols * 4) : op_->weight[1] == kNone);
      }
      case OpKind::kQuantize: {
        const Buffer *out = operand(3, DType::kQuantized, 0), *x = out ? operand(0, DType::kF32, out->cols) : nullptr;
        return x && same_rows(x, out);
      }
      case OpKind::kQuantizeI16: {
        const Buffer *out = operand(3, DType::kQuantized, 0), *x = out ? operand(0, DType::kI16, out->cols) : nullptr;
        return x && same_rows(x, out) && out->bits == 16 && positive(op_->f[0]);
      }
      case OpKind::kLinear:
        return linear();
      case OpKind::kActivation: {
        const Buffer *out = operand(3, DType::kF32, 0), *x = out ? operand(0, DType::kF32, out->cols) : nullptr;
        return x && same_rows(x, out) && within(op_->i[0], 0, int32_t(ActivationKind::kQuickGelu));
      }
      case OpKind::kSiluMul: {
        const Buffer *out = operand(3, DType::kF32, 0), *gate = out ? operand(0, DType::kF32, out->cols) : nullptr;
        const Buffer* up = out ? operand(1, DType::kF32, out->cols) : nullptr;
        return gate && up && same_rows(gate, out) && same_rows(up, out);
      }
      case OpKind::kRope:
        return rope();
      case OpKind::kKvStore: {
        const Buffer *k = operand(0, DType::kF32, 0), *v = k ? operand(1, DType::kF32, k->cols) : nullptr;
        return v && same_rows(k, v) && kv(op_->state == kNone ? operand(3, DType::kKv, k->cols) : nullptr, op_->i[0], k->cols, k->max_rows);
      }
      case OpKind::kAttention:
        return attention();
      default:
        return image_op();
    }
  }

  bool linear() const {
    const Buffer *x = operand(0, DType::kQuantized, 0), *out = operand(3, DType::kF32, 0);
    if (!x || !out || !same_rows(x, out) || !linear_weight(0, out->cols, x->cols, x->group_size)) return false;
    if (op_->in[1] != kNone) {
      const Buffer* residual = operand(1, DType::kF32, out->cols);
      if (!residual || !same_rows(residual, out) || op_->weight[2] != kNone) return false;
    }
    return array_or_none(1, int64_t(out->cols) * 4) && array_or_none(2, int64_t(out->max_rows) * out->cols * 4);
  }

  bool rope() const {
    const int32_t heads = op_->i[0], head_dim = op_->i[1];
    if (!within(heads, 1, 4096) || !within(head_dim, 2, 256) || head_dim % 2 != 0 || !positive(op_->f[0]) || op_->f[0] > 1) return false;
    const Buffer *out = operand(3, DType::kF32, heads * head_dim), *cos = operand(1, DType::kF32, head_dim / 2), *sin = operand(2, DType::kF32, head_dim / 2);
    if (!out || !cos || !sin || op_->in[0] != op_->out || op_->in[1] == op_->out || op_->in[2] == op_->out) return false;
    return cos->space == Space::kBound && sin->space == Space::kBound && !cos->dynamic_rows && same_rows(cos, sin) &&
           cos->max_rows >= out->max_rows && array_or_none(0, head_dim * 4);
  }

  // K and V of `kv_heads` heads in `cols` columns: the op's state, or a buffer, with room for `rows` positions.
  bool kv(const Buffer* buffer, int32_t kv_heads, int32_t cols, int32_t rows) const {
    if (!within(kv_heads, 1, 4096) || cols % kv_heads != 0) return false;
    if (op_->state != kNone) {
      const StateShape& s = p_.states[op_->state];
      return s.kv_heads == kv_heads && s.head_dim == cols / kv_heads && s.capacity >= rows;
    }
    return buffer && buffer->cols == cols && buffer->group_size == cols / kv_heads && buffer->max_rows >= rows;
  }

  bool attention() const {
    const int32_t heads = op_->i[0], kv_heads = op_->i[2];
    const Buffer *out = operand(3, DType::kF32, 0), *q = out ? operand(0, DType::kF32, out->cols) : nullptr;
    if (!q || !same_rows(q, out) || op_->in[0] == op_->out || !within(heads, 1, 4096) || !within(kv_heads, 1, heads)) return false;
    if (heads % kv_heads != 0 || out->cols % heads != 0 || !within(op_->i[1], 0, 1) || (op_->i[3] != 16 && op_->i[3] != 8)) return false;
    const int32_t head_dim = out->cols / heads;
    if (head_dim > kAttentionMaxHeadDim || !positive(op_->f[0]) || (op_->state != kNone && op_->in[1] != kNone)) return false;
    return kv(op_->state == kNone ? operand(1, DType::kKv, 0) : nullptr, kv_heads, kv_heads * head_dim, out->max_rows);
  }

  bool image_op() const {
    const auto& i = op_->i;
    for (int32_t value : i) {
      if (value < 0) return false;
    }
    const auto rows_are = [](const Buffer* b, int64_t rows) { return b && !b->dynamic_rows && b->max_rows == rows; };
    switch (op_->kind) {
      case OpKind::kPixelShuffle: {
        if (!within(i[0], 1, 4096) || !within(i[1], 1, 4096) || !within(i[2], 1, 64) || i[0] % i[2] != 0 || i[1] % i[2] != 0) return false;
        const Buffer* out = operand(3, DType::kF32, 0);
        return rows_are(out, i[0] / i[2] * (i[1] / i[2])) && out->cols % (i[2] * i[2]) == 0 && op_->in[0] != op_->out &&
               rows_are(operand(0, DType::kF32, out->cols / (i[2] * i[2])), i[0] * i[1]);
      }
      case OpKind::kPatchify: {
        if (!within(i[0], 1, 4096) || !within(i[1], 1, 4096) || !within(i[2], 1, 256) || int64_t(i[0]) * i[1] * i[2] * i[2] * 3 > kMostElements) return false;
        const Buffer *image = operand(0, DType::kU8, 1), *table = operand(1, DType::kI16, 257);
        return rows_are(operand(3, DType::kI16, 3 * i[2] * i[2]), i[0] * i[1]) && rows_are(image, 1) && image->space == Space::kBound &&
               rows_are(table, 3) && table->space == Space::kBound;
      }
      case OpKind::kVrcStem:
      case OpKind::kVrcDepthwise: {
        const bool stem = op_->kind == OpKind::kVrcStem;
        const int32_t stride = stem ? 2 : i[5];
        if (!within(i[0], 1, 4096) || !within(i[1], 1, 4096) || !within(stride, 1, 2) || !within(i[4], 1, kMostSide) || i[4] % kVrcLanes != 0) return false;
        if (i[2] != (i[0] - 1) / stride + 1 || i[3] != (i[1] - 1) / stride + 1 || (!stem && i[6] > 255) || op_->in[0] == op_->out) return false;
        return rows_are(operand(0, DType::kU8, stem ? 3 : i[4]), i[0] * i[1]) && rows_are(operand(3, DType::kU8, i[4]), i[2] * i[3]) &&
               requantised(int64_t(i[4]) * (stem ? 36 : 9), i[4]);
      }
      case OpKind::kVrcPointwise: {
        const Buffer *in = operand(0, DType::kU8, 0), *out = operand(3, DType::kU8, i[3]);
        if (!rows_are(out, i[0]) || i[3] % kVrcLanes != 0 || !rows_are(in, i[0]) || op_->in[0] == op_->out || !within(i[2], 1, kMostSide)) return false;
        if (i[0] == 1 ? i[1] > in->cols : i[1] != in->cols) return false;
        if (i[1] < 4 * i[2] || i[4] > 255) return false;
        if (op_->in[1] != kNone && (!rows_are(operand(1, DType::kU8, i[3]), i[0]) || !within(i[6], 1, 31))) return false;
        return requantised(int64_t(i[3]) * i[2] * 4, i[3]);
      }
      case OpKind::kVrcPool: {
        const Buffer* out = operand(3, DType::kU8, 0);
        return within(i[0], 1, kVrcPoolMaxPixels) && within(i[1], 1, kMostSide) && i[1] % kVrcLanes == 0 && within(i[2], 1, kMostSide) &&
               rows_are(operand(0, DType::kU8, i[1]), i[0]) && rows_are(operand(1, DType::kU8, i[2]), i[0]) && rows_are(out, 1) && out->cols >= i[1];
      }
      default:
        return false;
    }
  }

  bool requantised(int64_t weight_bytes, int64_t channels) const {
    return array(0, weight_bytes) && array(1, channels * 4) && array(2, channels * 4) && array(3, channels * 4);
  }

  const Program& p_;
  const ProgramSection* section_ = nullptr;
  const Op* op_ = nullptr;
};

}  // namespace

std::string program_fault(const Program& program) { return Checker(program).fault(); }

std::string state_fault(const StateShape& shape) {
  return Checker::state(shape) ? std::string() : joined("KV caches of ", shape.kv_heads, " heads of ", shape.head_dim, ", ", shape.capacity,
                                                        " positions and ", shape.bits, " bits: not a shape that is read");
}

std::string ids_fault(const Executable& executable, const RunArgs& args, const RunScalars& run) {
  const Program& program = executable.program;
  for (const ProgramSection& section : program.sections) {
    for (int32_t o = section.first_op; o < section.first_op + section.op_count; ++o) {
      const Op& op = program.ops[o];
      if (op.kind != OpKind::kEmbed) continue;
      const Buffer& b = program.buffers[op.in[0]];
      const auto* ids = static_cast<const int32_t*>(args.bound[op.in[0]]);
      for (int32_t r = 0; r < section.repeat; ++r) {
        const int32_t vocab = program.shape(section, r, op.weight[0]).rows;
        for (int32_t i = 0; i < (b.dynamic_rows ? run.rows : b.max_rows); ++i) {
          if (ids[i] >= vocab) return joined("token id ", ids[i], " is outside the vocabulary of ", vocab);
        }
      }
    }
  }
  return {};
}

}  // namespace hvl

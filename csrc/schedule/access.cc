#include "csrc/schedule/access.h"

#include <algorithm>

#include "kernels/kv_store/kv_store.h"
#include "kernels/linear/linear.h"
#include "kernels/quantize/quantize.h"
#include "kernels/vrc/vrc.h"

namespace hvl {

const ProgramSection& section_of(const Program& program, int32_t op) {
  for (const ProgramSection& s : program.sections) {
    if (op >= s.first_op && op < s.first_op + s.op_count) return s;
  }
  return program.sections.back();
}

OpRows op_rows(const Program& program, const Op& op) {
  const Buffer& b = program.buffers[op.kind == OpKind::kKvStore ? op.in[0] : op.out];
  return {b.max_rows, b.dynamic_rows};
}

int32_t row_quantum(const Program& program, const Op& op) {
  switch (op.kind) {
    case OpKind::kKvStore:
      return kKvKeyBlock;  // keys lie in blocks of 16
    case OpKind::kPixelShuffle:
      return op.i[1] / op.i[2];  // a row of the output grid
    case OpKind::kPatchify:
      return op.i[1];  // a row of patches
    case OpKind::kVrcStem:
    case OpKind::kVrcDepthwise:
      return op.i[3];  // an output line
    case OpKind::kVrcPointwise:
      return std::min(kVrcPixelBlock, program.buffers[op.out].max_rows);
    default:
      return 1;
  }
}

RowRange input_rows(const Program& program, const Op& op, int k, RowRange rows) {
  const Buffer& in = program.buffers[op.in[k]];
  switch (op.kind) {
    case OpKind::kPixelShuffle: {
      const int32_t out_w = op.i[1] / op.i[2], line = op.i[2] * op.i[1];  // rows of the input for one line of the output
      return {rows.begin / out_w * line, (rows.end + out_w - 1) / out_w * line};
    }
    case OpKind::kVrcStem:
    case OpKind::kVrcDepthwise: {
      const int32_t stride = op.kind == OpKind::kVrcStem ? 2 : op.i[5], in_h = op.i[0], in_w = op.i[1], out_w = op.i[3];
      const int32_t y0 = rows.begin / out_w, y1 = (rows.end + out_w - 1) / out_w;  // output lines; each reads 3 input lines
      return {std::max(0, y0 * stride - 1) * in_w, std::min(in_h, (y1 - 1) * stride + 2) * in_w};
    }
    case OpKind::kVrcPool:
      return {0, in.max_rows};
    case OpKind::kAttention:
      if (k == 1) return {0, in.max_rows};
      return rows;
    default:
      return rows;
  }
}

bool reads_beyond_block(const Op& op, int k) {
  switch (op.kind) {
    case OpKind::kPixelShuffle:
    case OpKind::kVrcStem:
    case OpKind::kVrcDepthwise:
    case OpKind::kVrcPool:
      return true;
    case OpKind::kAttention:
      return k == 1;
    default:
      return false;
  }
}

bool through_window(const Op& op, int k) {
  if (op.kind == OpKind::kRope) return k == 0;
  if (op.kind == OpKind::kPatchify) return false;
  return !is_kv(op, k);
}

bool is_kv(const Op& op, int k) {
  return (op.kind == OpKind::kAttention && k == 1) || (op.kind == OpKind::kKvStore && k == 3);
}

bool reads_output(const Op& op) { return op.kind == OpKind::kVrcPool || op.kind == OpKind::kEmbed; }

bool quantised_next(const Program& program, int32_t o) {
  const Op& op = program.ops[o];
  if (op.kind != OpKind::kNorm && op.kind != OpKind::kActivation && op.kind != OpKind::kSiluMul) return false;
  const ProgramSection& section = section_of(program, o);
  if (o + 1 >= section.first_op + section.op_count || program.buffers[op.out].space == Space::kBound) return false;
  const Op& next = program.ops[o + 1];
  if (next.kind != OpKind::kQuantize || next.in[0] != op.out) return false;
  for (const Op& other : program.ops) {
    if (&other != &op && &other != &next && std::find(other.in.begin(), other.in.end(), op.out) != other.in.end()) return false;
  }
  return true;
}

double bytes_a_row(const Buffer& buffer) {
  const int32_t rows = buffer.dtype == DType::kKv ? kKvKeyBlock : 1;
  return double(rows_bytes(buffer, rows)) / rows;
}

int32_t op_units(const Program& program, const Op& op) {
  if (op.kind == OpKind::kLinear) return (program.buffers[op.out].cols + kLinearRowBlock - 1) / kLinearRowBlock;
  if (op.kind == OpKind::kAttention) return op.i[2];
  return 1;
}

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

}  // namespace hvl

#include "csrc/program/program.h"

#include "csrc/base/hash.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/quantize/quantize.h"

namespace hvl {

size_t Buffer::bytes(int32_t rows) const {
  const size_t n = size_t(rows) * size_t(cols);
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return n * 4;
    case DType::kI16:
      return n * 2;
    case DType::kI8:
    case DType::kU8:
      return n;
    case DType::kQuantized:
      return quantized_rows_layout(rows, cols, group_size, bits).bytes;
    case DType::kKv:  // keys, then values
      return size_t(2 * kv_side_bytes(cols / group_size, group_size, rows, bits));
  }
  return 0;
}

BufferId Program::find(const std::string& buffer_name) const {
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].name == buffer_name) return BufferId(i);
  }
  return kNone;
}

uint64_t program_hash(const Program& program) {
  std::string bytes;
  const auto number = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto text = [&](const std::string& s) {
    number(uint64_t(s.size()));
    bytes += s;
  };
  const auto numbers = [&](const auto& values) {
    for (const auto& value : values) number(value);
  };
  text(program.name);
  for (const Buffer& b : program.buffers) {
    text(b.name);
    numbers(std::array<int32_t, 7>{int32_t(b.space), int32_t(b.dtype), b.max_rows, b.dynamic_rows, b.cols, b.group_size, b.bits});
  }
  for (const Op& op : program.ops) {
    number(int32_t(op.kind));
    numbers(op.in);
    numbers(std::array<int16_t, 2>{op.out, op.state});
    numbers(op.weight);
    numbers(op.i);
    numbers(op.f);
  }
  for (const ProgramSection& s : program.sections) {
    text(s.name);
    numbers(std::array<int32_t, 5>{s.first_op, s.op_count, s.repeat, s.weight_slots, s.first_weight});
  }
  for (const std::string& name : program.weights) text(name);
  for (const WeightShape& w : program.shapes) {
    numbers(std::array<int32_t, 6>{w.rows, w.cols, w.bits, w.group_size, w.scale_bits, w.zero_points});
    number(uint64_t(w.bytes));
  }
  for (const StateShape& s : program.states) numbers(std::array<int32_t, 4>{s.kv_heads, s.head_dim, s.capacity, s.bits});
  return hash64(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace hvl

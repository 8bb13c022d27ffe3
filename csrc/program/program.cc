#include "csrc/program/program.h"

#include "kernels/quantize/quantize.h"

namespace hvl {

size_t Buffer::bytes() const {
  const size_t n = size_t(max_rows) * size_t(cols);
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
      return quantized_rows_layout(max_rows, cols, group_size, bits).bytes;
  }
  return 0;
}

BufferId Program::find(const std::string& buffer_name) const {
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].name == buffer_name) return BufferId(i);
  }
  return kNone;
}

}  // namespace hvl

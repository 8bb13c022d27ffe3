#include "csrc/runtime/transfers.h"

#include <algorithm>

#include "csrc/schedule/access.h"

namespace hvl {

ImageRectangle image_rectangle(const Op& op, const RunArgs& args, int32_t row_begin, int32_t row_end) {
  const int32_t grid_w = op.i[1], patch = op.i[2], top = args.tile_top + row_begin / grid_w * patch;
  const int32_t lines = (row_end - row_begin) / grid_w * patch;
  return {top, std::clamp(args.image_height - top, 0, lines), std::clamp(args.image_width - args.tile_left, 0, grid_w * patch)};
}

uint8_t* TransferEngine::resolve(Transfer& t, const Step& step) const {
  const Program& program = executable_.program;
  switch (t.source) {
    case Transfer::Source::kBuffer: {
      const BufferPlan& home = executable_.plan.buffers[t.index];
      uint8_t* base = home.home == Home::kBound ? static_cast<uint8_t*>(args_.bound[t.index]) : ddr_ + home.offset;
      return base + t.offset;
    }
    case Transfer::Source::kWeight: {
      const ProgramSection& section = program.sections[step.section];
      const ResolvedWeight& w = executable_.weights[section.first_weight + size_t(t.repetition) * section.weight_slots + t.index];
      const uint8_t* base = w.linear.data ? w.linear.data : static_cast<const uint8_t*>(w.data);
      if (program.ops[step.op].kind == OpKind::kEmbed) {
        const int32_t id = static_cast<const int32_t*>(args_.bound[program.ops[step.op].in[0]])[step.row_begin];
        if (id < 0) t.rows = 0;
        t.offset = int64_t(std::max(id, 0) / kLinearRowBlock) * int64_t(linear_block_bytes(w.linear));
      }
      return const_cast<uint8_t*>(base) + t.offset;
    }
    case Transfer::Source::kKeys:
      return static_cast<uint8_t*>(args_.states[t.repetition].k) + t.offset;
    case Transfer::Source::kValues:
      return static_cast<uint8_t*>(args_.states[t.repetition].v) + t.offset;
    case Transfer::Source::kImage:
      break;
  }
  const ImageRectangle r = image_rectangle(program.ops[step.op], args_, step.row_begin, step.row_end);
  t.rows = r.lines;
  t.row_bytes = t.fast_stride = int64_t(r.columns) * 3;
  t.stride = int64_t(args_.image_width) * 3;
  return static_cast<uint8_t*>(args_.bound[t.index]) + (int64_t(r.top) * args_.image_width + args_.tile_left) * 3;
}

TransferEngine::Started TransferEngine::start(const TransferList& list, const Step& step, int64_t base) {
  Started started{ring_.next(), ring_.next()};
  for (Transfer t : list) {
    uint8_t* const there = resolve(t, step);
    uint8_t* const here = fast_ + base + t.fast_offset;
    if (t.store) {
      ring_.push({there, here, t.rows, t.row_bytes, t.stride, t.fast_stride});
    } else {
      ring_.push({here, there, t.rows, t.row_bytes, t.fast_stride, t.stride});
    }
    (t.store ? stats_.bytes_out : stats_.bytes_in) += t.bytes();
  }
  started.end = ring_.next();
  return started;
}

}  // namespace hvl

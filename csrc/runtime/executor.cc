#include "csrc/runtime/executor.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "csrc/base/arena.h"
#include "csrc/base/error.h"
#include "csrc/runtime/frame.h"

namespace hvl {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr int32_t kMostRowCols = 8192;  // of a row that is kept on the stack

// The quantize step behind the cursor's, if both may be done a row at a time.
const Op* quantize_behind(const Program& program, StepCursor cursor) {
  const Step step = cursor.step();
  if (!quantised_next(program, step.op) || program.buffers[program.ops[step.op].out].cols > kMostRowCols) return nullptr;
  cursor.next();
  if (cursor.done()) return nullptr;
  const Step& next = cursor.step();
  const bool both = next.op == step.op + 1 && next.group == step.group && next.block == step.block && next.repetition == step.repetition;
  return both ? &program.ops[next.op] : nullptr;
}

// Keeps kernels from DDR while it lives.
class Unreadable {
 public:
  explicit Unreadable(const std::vector<DdrRange>* ranges) : ranges_(ranges) { protect(false); }
  ~Unreadable() { protect(true); }

 private:
  void protect(bool readable) const {
    if (!ranges_) return;
    for (const DdrRange& r : *ranges_) protect_pages(r.data, r.bytes, readable, r.writable);
  }
  const std::vector<DdrRange>* ranges_;
};

}  // namespace

// The streamed blocks, one ahead of the step that runs. Which slot, and when a block may be fetched: csrc/schedule/steps.h.
class Executor::Ring {
 public:
  Ring(const Executable& executable, const RunArgs& args, TransferEngine& engine)
      : executable_(executable), engine_(engine), cursor_(executable.program, executable.plan, args.run) {
    find();
  }

  // The block of a step, landed; empty when it streams none. `bytes` of it, `base` in fast memory.
  const TransferList& wait(const Step& step, int64_t& base) {
    static const TransferList kNothing;
    if (!ahead_.exists || cursor_.step().op != step.op || !same(cursor_.step(), step)) return kNothing;
    if (!ahead_.started) start();
    engine_.wait(ahead_.transfers);
    current_ = ahead_;
    base = current_.base;
    cursor_.next();
    find();
    if (ahead_.exists && !ahead_.both && !current_.both && may_prefetch(executable_.program, ahead_.step)) start();
    return current_.list;
  }

 private:
  struct Block {
    bool exists = false, started = false, both = false;
    Step step;
    TransferList list;
    TransferEngine::Started transfers;
    int64_t base = 0;
  };

  static bool same(const Step& a, const Step& b) {
    return a.repetition == b.repetition && a.group == b.group && a.block == b.block && a.row_begin == b.row_begin &&
           a.unit_begin == b.unit_begin && a.key_begin == b.key_begin;
  }

  void start() {
    ahead_.transfers = engine_.start(ahead_.list, ahead_.step, ahead_.base);
    ahead_.started = true;
  }

  // Moves to the next step that streams, and gives its block a place.
  void find() {
    const Plan& plan = executable_.plan;
    ahead_ = {};
    if (!plan.staged) return;
    for (; !cursor_.done(); cursor_.next()) {
      ahead_.list = streamed(executable_.program, plan, cursor_.step());
      if (ahead_.list.count > 0) break;
    }
    if (cursor_.done()) return;
    ahead_.exists = true;
    ahead_.step = cursor_.step();
    const Transfer& last = ahead_.list.items[ahead_.list.count - 1];
    ahead_.both = last.fast_offset + last.bytes() > plan.ring_slot_bytes;
    if (!ahead_.both) slot_ ^= 1;
    ahead_.base = plan.ring_offset + (ahead_.both ? 0 : slot_ * plan.ring_slot_bytes);
  }

  const Executable& executable_;
  TransferEngine& engine_;
  StepCursor cursor_;
  Block current_, ahead_;
  int slot_ = 1;
};

bool Executor::run(const Executable& executable, const RunArgs& args, const RunMemory& memory, const CancelCheck& cancel,
                   const RunWatch& watch) const {
  const Plan& plan = executable.plan;
  if (pool_.threads() > plan.contexts) {
    fail(ErrorKind::kRuntime, "program ", executable.program.name, " was planned for ", plan.contexts, " threads, not for ", pool_.threads());
  }
  const Clock::time_point start = Clock::now();
  TransferStats unwatched;
  TransferEngine engine(executable, args, memory.fast, memory.ddr, watch.eager_transfers, watch.transfers ? *watch.transfers : unwatched);
  const auto moved = [&](const TransferList& list, const Step& step, double from, bool store) {
    if (!watch.trace || list.count == 0) return;
    TraceEvent e{true, store, step, from, seconds_since(start) - from, 0, list.count};
    for (const Transfer& t : list) e.bytes += t.bytes();
    watch.trace->push_back(e);
  };
  Ring ring(executable, args, engine);
  Frame frame{executable, args, memory, {}};
  for (StepCursor cursor(executable.program, plan, args.run); !cursor.done(); cursor.next()) {
    const Step& step = frame.step = cursor.step();
    if (step.first) {
      if (step.op == plan.groups[step.group].first_op && cancel.requested && cancel.requested(cancel.context)) return false;
      frame.block = block_range(executable.program, plan, step, args.run);
    }
    if (plan.staged) {
      const double from = watch.trace ? seconds_since(start) : 0;
      if (step.first) {
        const TransferList loads = loads_before(executable.program, plan, step, args.run);
        engine.wait(engine.start(loads, step));
        moved(loads, step, from, false);
      }
      const double then = watch.trace ? seconds_since(start) : 0;
      int64_t base = 0;
      frame.streamed = &ring.wait(step, base);
      frame.ring = memory.fast + base;
      moved(*frame.streamed, step, then, false);
    }
    const double from = watch.trace ? seconds_since(start) : 0;
    const bool joined = !plan.staged && !watch.trace && !watch.step.call;  // with steps behind it
    frame.quantize = joined ? quantize_behind(executable.program, cursor) : nullptr;
    if (joined && frame.op().kind == OpKind::kLinear) {
      cursor = run_linears(frame, cursor);
    } else if (frame.quantize) {
      run_op(frame);
      cursor.next();
    } else {
      const Unreadable guard(watch.unreadable);
      if (watch.step.call) watch.step.call(watch.step.context, step, false);
      run_op(frame);
      if (watch.step.call) watch.step.call(watch.step.context, step, true);
    }
    if (watch.trace) watch.trace->push_back({false, false, step, from, seconds_since(start) - from, 0, 0});
    if (plan.staged && step.last) {
      const double then = watch.trace ? seconds_since(start) : 0;
      const TransferList stores = stores_after(executable.program, plan, step, args.run);
      engine.wait(engine.start(stores, step));
      moved(stores, step, then, true);
    }
  }
  return true;
}

template <typename Args>
void Executor::launch(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, int32_t begin, int32_t end) const {
  pool_.parallel_for(end - begin, [&](int32_t from, int32_t to) { kernel(args, begin + from, begin + to); });
}

// What gives a row of each row of x. Where its rows are quantised next, one is while it is still in a cache, and is kept nowhere else.
template <typename Args>
void Executor::launch_rows(void (*kernel)(const Args&, int32_t, int32_t) noexcept, const Args& args, const Frame& f) const {
  if (!f.quantize) return launch(kernel, args, 0, args.rows);
  const QuantizeArgs q{nullptr, args.cols, f.quantized(f.quantize->out)};
  pool_.parallel_for(args.rows, [&](int32_t begin, int32_t end) {
    alignas(64) float row[kMostRowCols];
    Args one = args;
    QuantizeArgs from = q;
    for (int32_t r = begin; r < end; ++r) {
      from.x = one.out = virtual_base(row, int64_t(r) * args.cols);
      kernel(one, r, r + 1);
      kernels_.quantize(from, r, r + 1);
    }
  });
}

LinearArgs Executor::linear_args(const Frame& f) const {
  const Op& op = f.op();
  const int32_t first = f.step.unit_begin, cols = f.desc(op.out).cols;
  const float* residual = f.at<float>(op.in[1]);
  if (op.weight[2] != kNone) {
    residual = f.staged() ? reinterpret_cast<const float*>(f.scratch())
                          : static_cast<const float*>(f.resolved(op.weight[2]).data) + int64_t(f.step.row_begin) * cols;
  }
  const float* bias = f.array<float>(op.weight[1]);
  if (bias && f.staged()) bias = virtual_base(bias, int64_t(first) * kLinearRowBlock);
  return {f.quantized(op.in[0]), f.linear(op.weight[0], first), bias, residual, f.at<float>(op.out), cols};
}

// The step of the cursor and those behind it that take the same x (q, k and v; gate and up), handed out as one: at every end threads wait for
// each other, and at every beginning for memory. Returns the cursor at the last of them.
StepCursor Executor::run_linears(Frame& frame, StepCursor cursor) const {
  constexpr int kMost = 4;
  std::array<LinearArgs, kMost> layers;
  const Step first = frame.step;
  const Op& op = frame.op();
  const auto joins = [&](const Step& step) {
    const Op& other = frame.program().ops[step.op];
    return other.kind == OpKind::kLinear && other.in[0] == op.in[0] && other.in[1] == kNone && op.in[1] == kNone && step.group == first.group &&
           step.block == first.block && step.repetition == first.repetition;
  };
  int count = 0;
  int32_t units = 0;
  for (StepCursor next = cursor;;) {
    layers[count] = linear_args(frame);
    units += linear_row_blocks(layers[count].weight);
    ++count;
    next.next();
    if (count == kMost || next.done() || !joins(next.step())) break;
    cursor = next;
    frame.step = cursor.step();
  }
  pool_.parallel_for(units, [&](int32_t begin, int32_t end) {
    int32_t before = 0;
    for (int i = 0; i < count; ++i) {
      const int32_t blocks = linear_row_blocks(layers[i].weight);
      const int32_t from = std::max(begin - before, 0), to = std::min(end - before, blocks);
      if (from < to) kernels_.linear(layers[i], from, to);
      before += blocks;
    }
  });
  return cursor;
}

void Executor::run_op(const Frame& f) const {
  const Op& op = f.op();
  const int32_t rows = f.rows(), r0 = f.step.row_begin, r1 = f.step.row_end;
  switch (op.kind) {
    case OpKind::kEmbed: {
      const int32_t* ids = f.at<int32_t>(op.in[0]);
      const int32_t first_block = f.staged() ? std::max(*ids, 0) / kLinearRowBlock : 0;
      const EmbedArgs a{f.linear(op.weight[0], first_block), ids, f.at<float>(op.out), f.desc(op.out).cols, rows};
      return launch(kernels_.embed, a, 0, rows);
    }
    case OpKind::kNorm: {
      const int32_t cols = f.desc(op.out).cols;
      const NormArgs a{f.at<float>(op.in[0]), cols, f.array<float>(op.weight[0]), f.array<float>(op.weight[1]),
                       f.at<float>(op.out), cols, rows, cols, op.f[0], NormKind(op.i[0])};
      return launch_rows(kernels_.norm, a, f);
    }
    case OpKind::kQuantize: {
      const QuantizeArgs a{f.at<float>(op.in[0]), f.desc(op.in[0]).cols, f.quantized(op.out)};
      return launch(kernels_.quantize, a, 0, rows);
    }
    case OpKind::kQuantizeI16: {
      const QuantizeI16Args a{f.at<int16_t>(op.in[0]), op.f[0], f.quantized(op.out)};
      return launch(kernels_.quantize_i16, a, 0, rows);
    }
    case OpKind::kLinear:
      return launch(kernels_.linear, linear_args(f), f.step.unit_begin, f.step.unit_end);
    case OpKind::kActivation: {
      const ActivationArgs a{f.at<float>(op.in[0]), f.at<float>(op.out), rows, f.desc(op.out).cols, ActivationKind(op.i[0])};
      return launch_rows(kernels_.activation, a, f);
    }
    case OpKind::kSiluMul: {
      const SiluMulArgs a{f.at<float>(op.in[0]), f.at<float>(op.in[1]), f.at<float>(op.out), rows, f.desc(op.out).cols};
      return launch_rows(kernels_.silu_mul, a, f);
    }
    case OpKind::kRope: {
      RopeArgs a{f.at<float>(op.out), f.desc(op.out).cols, f.array<float>(op.weight[0]), op.f[0], nullptr, nullptr, 0, rows, op.i[0], op.i[1]};
      if (f.staged()) {  // the positions of this block, from 0 on
        a.cos = reinterpret_cast<const float*>(f.scratch());
        a.sin = reinterpret_cast<const float*>(f.scratch() + plan_aligned(rows * rows_bytes(f.desc(op.in[1]), 1)));
      } else {
        a.cos = f.whole<float>(op.in[1]);
        a.sin = f.whole<float>(op.in[2]);
        a.position = f.args.run.position + r0;
      }
      return launch(kernels_.rope, a, 0, rows);
    }
    case OpKind::kKvStore: {
      KvStoreArgs a{f.at<float>(op.in[0]), f.at<float>(op.in[1]), f.desc(op.in[0]).cols, rows, r0, {}};
      if (op.state != kNone) {
        a.cache = f.args.states[f.step.repetition];
        a.position = f.args.run.position + r0;
        if (f.staged()) {  // whole blocks of 16 positions, the first perhaps begun before
          const int32_t skip = a.position / kKvKeyBlock * kKvKeyBlock;
          const int32_t positions = kv_padded_keys(a.position + rows) - skip;
          const int64_t side = kv_side_bytes(a.cache.kv_heads, a.cache.head_dim, positions, a.cache.bits);
          a.cache = {f.scratch(), f.scratch() + plan_aligned(side), a.cache.kv_heads, a.cache.head_dim, positions, a.cache.bits};
          a.position -= skip;
        }
      } else if (const Window* w = f.window(op.out)) {
        a.cache = f.kv_in_buffer(f.memory.fast + w->offset, f.desc(op.out), op.i[0], kv_padded_keys(rows));
        a.position = 0;
      } else {
        a.cache = f.kv_in_buffer(f.home(op.out), f.desc(op.out), op.i[0], f.desc(op.out).max_rows);
      }
      return launch(kernels_.kv_store, a, 0, op.i[0]);
    }
    case OpKind::kAttention:
      return run_attention(f);
    case OpKind::kPixelShuffle: {
      const PixelShuffleArgs a{f.whole<float>(op.in[0]), f.whole<float>(op.out), op.i[0], op.i[1], f.desc(op.in[0]).cols, op.i[2]};
      return launch(kernels_.pixel_shuffle, a, r0, r1);
    }
    case OpKind::kPatchify: {
      const RunArgs& r = f.args;
      const int32_t grid_w = op.i[1], lines = rows / grid_w;
      PatchifyArgs a{f.whole<uint8_t>(op.in[0]), r.image_height, r.image_width, r.tile_top + r0 / grid_w * op.i[2], r.tile_left, lines, grid_w,
                     op.i[2], f.whole<int16_t>(op.in[1]), f.at<int16_t>(op.out)};
      if (f.staged()) {  // the table, then the block's rectangle of the image
        const ImageRectangle in = image_rectangle(op, r, r0, r1);
        a.table = reinterpret_cast<const int16_t*>(f.scratch());
        a.image = f.scratch() + plan_aligned(rows_bytes(f.desc(op.in[1]), f.desc(op.in[1]).max_rows));
        a.height = in.lines;
        a.width = in.columns;
        a.top = a.left = 0;
      }
      return launch(kernels_.patchify, a, 0, lines);
    }
    case OpKind::kVrcStem: {
      const VrcStemArgs a{f.whole<uint8_t>(op.in[0]), f.whole<uint8_t>(op.out), op.i[0], op.i[1], op.i[2], op.i[3], op.i[4],
                          f.array<int8_t>(op.weight[0]), f.requant()};
      return launch(kernels_.vrc_stem, a, r0 / a.out_width, r1 / a.out_width);
    }
    case OpKind::kVrcDepthwise: {
      const VrcDepthwiseArgs a{f.whole<uint8_t>(op.in[0]), f.whole<uint8_t>(op.out), op.i[0], op.i[1], op.i[2], op.i[3], op.i[4],
                               op.i[5], op.i[6], f.array<int8_t>(op.weight[0]), f.requant()};
      return launch(kernels_.vrc_depthwise, a, r0 / a.out_width, r1 / a.out_width);
    }
    case OpKind::kVrcPointwise: {
      const VrcPointwiseArgs a{f.at<uint8_t>(op.in[0]), f.at<uint8_t>(op.out), rows, op.i[1], op.i[2], op.i[3],
                               f.array<int8_t>(op.weight[0]), f.requant(), op.i[4], f.at<uint8_t>(op.in[1]), op.i[5], op.i[6]};
      return launch(kernels_.vrc_pointwise, a, 0, vrc_pointwise_units(a));
    }
    case OpKind::kVrcPool: {
      const VrcPoolArgs a{f.whole<uint8_t>(op.in[0]), f.whole<uint8_t>(op.in[1]), f.whole<uint8_t>(op.out), op.i[0], op.i[1], op.i[2]};
      return launch(kernels_.vrc_pool, a, 0, a.channels / kVrcLanes);
    }
  }
}

// K/V heads unit_begin .. unit_end with their query heads, keys key_begin .. key_end.
void Executor::run_attention(const Frame& f) const {
  const Op& op = f.op();
  const Step& step = f.step;
  const int32_t cols = f.desc(op.out).cols, kv_heads = op.i[2], group = op.i[0] / kv_heads, head_dim = cols / op.i[0];
  const int32_t head = step.unit_begin * group, heads = (step.unit_end - step.unit_begin) * group;
  AttentionArgs a{};
  a.q = f.at<float>(op.in[0]) + int64_t(head) * head_dim;
  a.out = f.at<float>(op.out) + int64_t(head) * head_dim;
  a.q_stride = a.out_stride = cols;
  a.rows = f.rows();
  a.heads = heads;
  a.position = (op.state == kNone ? 0 : f.args.run.position) + step.row_begin;
  a.key_begin = step.key_begin;
  a.key_end = step.key_end;
  a.causal = op.i[1] != 0;
  a.activation_bits = op.i[3];
  a.scale = op.f[0];
  a.first = step.key_begin == 0;
  a.last = step.key_end == key_limit(f.program(), step, f.args.run);
  if (f.streamed && f.streamed->count > 0) {  // keys, then values, of these heads and positions only
    const Transfer &k = f.streamed->items[0], &v = f.streamed->items[1];
    const int32_t bits = op.state == kNone ? f.desc(op.in[1]).bits : f.args.states[step.repetition].bits;
    a.cache = {const_cast<uint8_t*>(f.ring) + k.fast_offset, const_cast<uint8_t*>(f.ring) + v.fast_offset, step.unit_end - step.unit_begin, head_dim,
               kv_padded_keys(step.key_end - step.key_begin), bits};
  } else {
    a.cache = op.state == kNone ? f.kv_in_buffer(f.home(op.in[1]), f.desc(op.in[1]), kv_heads, f.desc(op.in[1]).max_rows)
                                : f.args.states[step.repetition];
    const int64_t skip = kv_side_bytes(step.unit_begin, head_dim, a.cache.capacity, a.cache.bits);
    a.cache.k += skip;
    a.cache.v += skip;
    a.cache.kv_heads = step.unit_end - step.unit_begin;
  }
  const int64_t each = plan_aligned(attention_scratch_bytes(head_dim));
  a.state = reinterpret_cast<float*>(f.scratch() + f.plan().contexts * each) + int64_t(head) * 2;
  a.state_stride = int64_t(op.i[0]) * 2;
  pool_.parallel_for_indexed(attention_units(a.rows, heads), [&](int thread, int32_t begin, int32_t end) {
    AttentionArgs mine = a;
    mine.scratch = f.scratch() + thread * each;
    kernels_.attention(mine, begin, end);
  });
}

}  // namespace hvl

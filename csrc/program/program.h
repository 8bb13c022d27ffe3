// A Program: what to compute, as plain data. Model code records it once a shape; the scheduler places its buffers (csrc/schedule); the
// runtime runs it with the kernels of the device. Sizes that change from run to run (rows, position, ...) are run-time scalars.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace hvl {

enum class OpKind : uint8_t {
  kEmbed,         // in: ids (i32)                 w: embedding            out: f32
  kNorm,          // in: x                         w: weight, bias|none    out: f32      i: NormKind         f: eps
  kQuantize,      // in: x (f32)                                           out: quantized
  kQuantizeI16,   // in: x (i16)                                           out: quantized                    f: scale
  kLinear,        // in: x (quantized), residual|none  w: linear, bias|none  out: f32  (residual may also be w: see Op)
  kActivation,    // in: x                                                 out: f32      i: ActivationKind
  kSiluMul,       // in: gate, up                                          out: f32
  kRope,          // in: x, cos, sin               w: norm weight|none     out: = x      i: heads, head_dim  f: eps
  kKvStore,       // in: k, v                                              out: kv|none  i: kv_heads         state: kv|none
  kAttention,     // in: q, kv|none                                        out: f32      i: heads, causal, kv_heads, activation bits  f: scale  state
  kPixelShuffle,  // in: x                                                 out: f32      i: grid_h, grid_w, factor
  kPatchify,      // in: image (bound), table (bound)                      out: i16      i: grid_h, grid_w, patch
  // The VRC's integer network (kernels/vrc); weights: weight, bias, multiplier, shift.
  kVrcStem,       // in: rgb (u8)                                          out: u8       i: in_h, in_w, out_h, out_w, channels
  kVrcDepthwise,  // in: x                                                 out: u8       i: as above, stride, in_zero_point
  kVrcPointwise,  // in: x, residual|none  out: u8  i: pixels, in_stride, k_groups, channels, out_zero_point, residual multiplier, shift
  kVrcPool,       // in: x, weights                                        out: u8       i: pixels, channels, weight_stride
};

// Where a buffer lives: in the arena, placed by the scheduler, or bound by the caller of each run.
enum class Space : uint8_t { kArena, kBound };

enum class DType : uint8_t { kF32, kI32, kI16, kI8, kU8, kQuantized, kKv };

// A buffer holds `rows` rows of `cols` elements. rows may be the run-time scalar `rows` (then `max_rows` bounds it).
struct Buffer {
  std::string name;
  Space space = Space::kArena;
  DType dtype = DType::kF32;
  int32_t max_rows = 0;
  bool dynamic_rows = false;  // as many rows as the run says; else max_rows
  int32_t cols = 0;
  int32_t group_size = 0;  // kQuantized; kKv: head_dim
  int32_t bits = 0;        // kQuantized, kKv: 16 or 8
  size_t bytes() const { return bytes(max_rows); }
  size_t bytes(int32_t rows) const;  // of that many rows laid out by themselves (parts of quantised rows, blocks of K/V are padded)
};

using BufferId = int16_t;
using WeightId = int16_t;  // a slot: in a repeated section it names another tensor in each repetition
using StateId = int16_t;   // a KV cache, bound at run time: one a repetition of the section (a tile's own K/V are an arena buffer instead)
inline constexpr int16_t kNone = -1;

struct Op {
  OpKind kind = OpKind::kNorm;
  std::array<BufferId, 3> in = {kNone, kNone, kNone};
  BufferId out = kNone;
  std::array<WeightId, 4> weight = {kNone, kNone, kNone, kNone};  // kLinear: linear, bias, constant residual rows (position table)
  StateId state = kNone;
  std::array<int32_t, 8> i = {};
  std::array<float, 2> f = {};
};

// Consecutive ops that run `repeat` times, with the weights of repetition r in their slots.
struct ProgramSection {
  std::string name;
  int32_t first_op = 0;
  int32_t op_count = 0;
  int32_t repeat = 1;
  int32_t weight_slots = 0;
  int32_t first_weight = 0;  // weight of slot s in repetition r: weights[first_weight + r * weight_slots + s]
};

// What the scheduler must know of a weight: a packed linear (kernels/linear), or a plain array (rows 0).
struct WeightShape {
  int32_t rows = 0, cols = 0, bits = 0, group_size = 0, scale_bits = 0, zero_points = 0;
  size_t bytes = 0;
};

// The KV cache that an op's state stands for; a repetition of its section has one each.
struct StateShape {
  int32_t kv_heads = 0, head_dim = 0, capacity = 0, bits = 0;
};

struct Program {
  std::string name;
  std::vector<Buffer> buffers;
  std::vector<Op> ops;
  std::vector<ProgramSection> sections;
  std::vector<std::string> weights;   // tensor names
  std::vector<WeightShape> shapes;    // parallel to weights; filled in when they are resolved
  std::vector<StateShape> states;

  BufferId find(const std::string& buffer_name) const;  // kNone when absent
  const WeightShape& shape(const ProgramSection& section, int32_t repetition, WeightId slot) const {
    return shapes[section.first_weight + size_t(repetition) * section.weight_slots + slot];
  }
};

// Identifies a Program with its weights' names and shapes: plans made for one Program fit only Programs of the same hash.
uint64_t program_hash(const Program& program);

}  // namespace hvl

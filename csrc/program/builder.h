// Records a Program op by op, inferring output shapes and checking operands.
#pragma once

#include <string>

#include "csrc/program/program.h"

namespace hvl {

// What the builder must know of a weight before it can record ops with it.
struct LinearShape {
  int32_t rows;  // outputs
  int32_t cols;  // inputs
  int32_t group_size;
};

// Where keys and values go: a cache bound at run time, or a buffer of the arena.
struct KvRef {
  StateId state = kNone;
  BufferId buffer = kNone;
  int32_t kv_heads = 0;
};

class ProgramBuilder {
 public:
  explicit ProgramBuilder(std::string name, int32_t activation_bits);

  BufferId bound(std::string name, DType dtype, int32_t max_rows, int32_t cols, bool dynamic_rows = false);
  KvRef kv_state(int32_t kv_heads, int32_t head_dim, int32_t context_length, int32_t bits);
  KvRef kv_buffer(int32_t kv_heads, int32_t head_dim, int32_t rows, int32_t bits);

  // Sections: ops are recorded between begin and end. In a section that repeats, a weight name holds "{}" where the number of
  // the repetition goes.
  void begin_section(std::string name, int32_t repeat = 1);
  void end_section();
  WeightId weight(const std::string& name);  // kNone for ""

  // Each returns its output buffer (a new arena buffer unless `out` is given).
  BufferId embed(BufferId ids, WeightId table, BufferId out);
  BufferId rms_norm(BufferId x, WeightId weight, float eps);
  BufferId layer_norm(BufferId x, WeightId weight, WeightId bias, float eps, BufferId out = kNone);
  BufferId quantize(BufferId x, int32_t group_size);
  BufferId quantize_i16(BufferId x, int32_t group_size, float scale);
  BufferId linear(BufferId x, WeightId weight, const LinearShape& shape, WeightId bias = kNone, BufferId residual = kNone,
                  BufferId out = kNone, WeightId constant_residual = kNone);
  void activation(BufferId x, int32_t kind);
  void silu_mul(BufferId gate, BufferId up);
  void rope(BufferId x, BufferId cos, BufferId sin, WeightId norm, int32_t heads, float eps);
  void kv_store(BufferId k, BufferId v, const KvRef& kv);
  BufferId attention(BufferId q, const KvRef& kv, int32_t heads, bool causal, float scale);
  BufferId pixel_shuffle(BufferId x, int32_t grid_h, int32_t grid_w, int32_t factor);
  BufferId patchify(BufferId image, BufferId table, int32_t grid_h, int32_t grid_w, int32_t patch);
  BufferId append(Op op, const std::string& out_name, DType dtype, int32_t rows, int32_t cols);  // an op with no method of its own

  Program finish();

 private:
  const Buffer& at(BufferId id) const;
  BufferId add(Space space, std::string name, DType dtype, int32_t rows, int32_t cols, bool dynamic);
  BufferId like(BufferId rows_of, std::string name, int32_t cols, DType dtype = DType::kF32);

  Program program_;
  int32_t activation_bits_;
  std::vector<std::string> slots_;  // weight names of the open section
  bool open_ = false;
};

}  // namespace hvl

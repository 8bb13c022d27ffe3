// Qwen3 decoder: token ids (or embeddings already in place) -> hidden states -> logits.
#pragma once

#include "csrc/io/weight_store.h"
#include "csrc/model/config.h"
#include "csrc/program/program.h"

namespace hvl {

// Up to max_rows tokens at the run's position; prefill chunks and decode steps are runs of the same Program.
// Bound buffers: "ids" (i32; -1 where an image embedding already stands in "hidden"), "hidden" (rows, hidden; in and out),
// "cos", "sin" (context_length, head_dim / 2). States: a KV cache a layer.
Program qwen3_layers_program(const TextConfig& config, const WeightStore& weights, int32_t max_rows, int32_t context_length,
                             int32_t activation_bits, int32_t kv_bits);

// Final norm and output head. Bound buffers: "hidden" (rows, hidden), "logits" (rows, vocab).
Program qwen3_head_program(const TextConfig& config, const WeightStore& weights, int32_t max_rows, int32_t activation_bits);

}  // namespace hvl

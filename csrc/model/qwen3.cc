#include "csrc/model/qwen3.h"

#include <cmath>

#include "csrc/model/siglip2.h"
#include "csrc/program/builder.h"

namespace hvl {
namespace {
constexpr const char* kEmbedding = "model.language_model.embed_tokens";
}

Program qwen3_layers_program(const TextConfig& config, const WeightStore& weights, int32_t max_rows, int32_t context_length,
                             int32_t activation_bits, int32_t kv_bits) {
  const int32_t hidden = config.hidden_size, heads = config.num_attention_heads, kv_heads = config.num_key_value_heads;
  const int32_t head_dim = config.head_dim, inner = config.intermediate_size;
  ProgramBuilder b("qwen3_layers", activation_bits);

  const BufferId ids = b.bound("ids", DType::kI32, max_rows, 1, true);
  const BufferId x = b.bound("hidden", DType::kF32, max_rows, hidden, true);
  const BufferId cos = b.bound("cos", DType::kF32, context_length, head_dim / 2);
  const BufferId sin = b.bound("sin", DType::kF32, context_length, head_dim / 2);

  linear_shape(weights, kEmbedding, config.vocab_size, hidden);
  b.begin_section("embed_tokens");
  b.embed(ids, b.weight(kEmbedding + std::string(".weight")), x);
  b.end_section();

  const KvRef kv = b.kv_state(kv_heads, head_dim, context_length, kv_bits);
  b.begin_section("layers", config.num_hidden_layers);
  const std::string layer = "model.language_model.layers.{}.";
  const std::string first = "model.language_model.layers.0.";  // every layer has the shapes and groups of the first
  const auto linear = [&](BufferId in, const std::string& name, int32_t rows, int32_t cols, BufferId residual = kNone) {
    return b.linear(in, b.weight(layer + name + ".weight"), linear_shape(weights, first + name, rows, cols), kNone, residual, residual);
  };
  const auto quantize = [&](BufferId in, const std::string& name, int32_t rows, int32_t cols) {
    return b.quantize(in, linear_shape(weights, first + name, rows, cols).group_size);
  };
  const auto norm = [&](const std::string& name) { return b.rms_norm(x, b.weight(layer + name + ".weight"), config.rms_norm_eps); };

  const BufferId h = quantize(norm("input_layernorm"), "self_attn.q_proj", heads * head_dim, hidden);
  const BufferId q = linear(h, "self_attn.q_proj", heads * head_dim, hidden);
  const BufferId k = linear(h, "self_attn.k_proj", kv_heads * head_dim, hidden);
  const BufferId v = linear(h, "self_attn.v_proj", kv_heads * head_dim, hidden);
  b.rope(q, cos, sin, b.weight(layer + "self_attn.q_norm.weight"), heads, config.rms_norm_eps);
  b.rope(k, cos, sin, b.weight(layer + "self_attn.k_norm.weight"), kv_heads, config.rms_norm_eps);
  b.kv_store(k, v, kv);
  const BufferId attended = b.attention(q, kv, heads, /*causal=*/true, 1.0f / std::sqrt(float(head_dim)));
  linear(quantize(attended, "self_attn.o_proj", hidden, heads * head_dim), "self_attn.o_proj", hidden, heads * head_dim, x);

  const BufferId m = quantize(norm("post_attention_layernorm"), "mlp.gate_proj", inner, hidden);
  const BufferId gate = linear(m, "mlp.gate_proj", inner, hidden);
  const BufferId up = linear(m, "mlp.up_proj", inner, hidden);
  b.silu_mul(gate, up);
  linear(quantize(gate, "mlp.down_proj", hidden, inner), "mlp.down_proj", hidden, inner, x);
  b.end_section();
  return b.finish();
}

Program qwen3_head_program(const TextConfig& config, const WeightStore& weights, int32_t max_rows, int32_t activation_bits) {
  const std::string head = config.tie_word_embeddings ? kEmbedding : "lm_head";
  const LinearShape shape = linear_shape(weights, head, config.vocab_size, config.hidden_size);
  ProgramBuilder b("qwen3_head", activation_bits);
  const BufferId hidden = b.bound("hidden", DType::kF32, max_rows, config.hidden_size, true);
  const BufferId logits = b.bound("logits", DType::kF32, max_rows, config.vocab_size, true);
  b.begin_section("head");
  const BufferId h = b.rms_norm(hidden, b.weight("model.language_model.norm.weight"), config.rms_norm_eps);
  b.linear(b.quantize(h, shape.group_size), b.weight(head + ".weight"), shape, kNone, kNone, logits);
  b.end_section();
  return b.finish();
}

}  // namespace hvl

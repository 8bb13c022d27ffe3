#include "csrc/model/siglip2.h"

#include <algorithm>
#include <cmath>

#include "csrc/program/builder.h"

namespace hvl {

LinearShape linear_shape(const WeightStore& weights, const std::string& name, int32_t rows, int32_t cols) {
  const LinearWeight& w = weights.linear(name + ".weight", rows, cols);
  return {w.rows, w.cols, w.group_size};
}

Program siglip2_tile_program(const VisionConfig& config, const WeightStore& weights, const std::string& branch, int32_t grid_h,
                             int32_t grid_w, float pixel_scale, int32_t activation_bits, int32_t kv_bits) {
  const std::string tower = "model.vision_tower." + branch + ".";
  const int32_t hidden = config.hidden_size, patch = config.patch_size, tokens = grid_h * grid_w;
  const int32_t heads = config.num_attention_heads, head_dim = hidden / heads;
  ProgramBuilder b("siglip2_tile", activation_bits);

  const BufferId image = b.bound("image", DType::kU8, 1, 1);
  const BufferId table = b.bound("pixel_table", DType::kI16, 3, 257);
  const BufferId features = b.bound("features", DType::kF32, tokens, hidden);

  b.begin_section("patch_embedding");
  const std::string embedding = tower + "embeddings.patch_embedding";
  const LinearShape patch_shape = linear_shape(weights, embedding, hidden, 3 * patch * patch);
  const BufferId patches = b.patchify(image, table, grid_h, grid_w, patch);              // (tokens, 3 * patch^2)
  const BufferId pixels = b.quantize_i16(patches, patch_shape.group_size, pixel_scale);
  const BufferId x = b.linear(pixels, b.weight(embedding + ".weight"), patch_shape, b.weight(embedding + ".bias"), kNone, kNone,
                              b.weight(kPositionRows));                                  // (tokens, hidden)
  b.end_section();

  const KvRef kv = b.kv_buffer(heads, head_dim, tokens, kv_bits);
  b.begin_section("encoder", config.num_hidden_layers);
  const std::string layer = tower + "encoder.layers.{}.";
  const std::string first = tower + "encoder.layers.0.";  // every layer has the shapes and groups of the first
  const auto linear = [&](BufferId in, const std::string& name, int32_t rows, int32_t cols, BufferId residual = kNone) {
    const LinearShape shape = linear_shape(weights, first + name, rows, cols);
    return b.linear(in, b.weight(layer + name + ".weight"), shape, b.weight(layer + name + ".bias"), residual, residual);
  };
  const auto group = [&](const std::string& name, int32_t rows, int32_t cols) {
    return linear_shape(weights, first + name, rows, cols).group_size;
  };
  const auto norm = [&](const std::string& name) {
    return b.layer_norm(x, b.weight(layer + name + ".weight"), b.weight(layer + name + ".bias"), config.layer_norm_eps);
  };

  const BufferId h = b.quantize(norm("layer_norm1"), group("self_attn.q_proj", hidden, hidden));
  const BufferId q = linear(h, "self_attn.q_proj", hidden, hidden);
  const BufferId k = linear(h, "self_attn.k_proj", hidden, hidden);
  const BufferId v = linear(h, "self_attn.v_proj", hidden, hidden);
  b.kv_store(k, v, kv);
  const BufferId attended = b.attention(q, kv, heads, /*causal=*/false, 1.0f / std::sqrt(float(head_dim)));
  linear(b.quantize(attended, group("self_attn.out_proj", hidden, hidden)), "self_attn.out_proj", hidden, hidden, x);

  const int32_t inner = config.intermediate_size;
  const BufferId m = b.quantize(norm("layer_norm2"), group("mlp.fc1", inner, hidden));
  const BufferId up = linear(m, "mlp.fc1", inner, hidden);
  b.activation(up, int32_t(config.hidden_act));
  linear(b.quantize(up, group("mlp.fc2", hidden, inner)), "mlp.fc2", hidden, inner, x);
  b.end_section();

  b.begin_section("post_layernorm");
  b.layer_norm(x, b.weight(tower + "post_layernorm.weight"), b.weight(tower + "post_layernorm.bias"), config.layer_norm_eps, features);
  b.end_section();
  return b.finish();
}

std::vector<float> resize_positions(const float* table, int32_t in, int32_t out_h, int32_t out_w, int32_t cols) {
  const auto cubic = [](double t, double w[4]) {
    constexpr double a = -0.75;
    const auto near = [](double x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
    const auto far = [](double x) { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a; };
    w[0] = far(t + 1);
    w[1] = near(t);
    w[2] = near(1 - t);
    w[3] = far(2 - t);
  };
  std::vector<float> out(size_t(out_h) * out_w * cols);
  for (int32_t y = 0; y < out_h; ++y) {
    const double sy = (y + 0.5) * in / out_h - 0.5, fy = std::floor(sy);
    double wy[4];
    cubic(sy - fy, wy);
    for (int32_t x = 0; x < out_w; ++x) {
      const double sx = (x + 0.5) * in / out_w - 0.5, fx = std::floor(sx);
      double wx[4];
      cubic(sx - fx, wx);
      for (int32_t c = 0; c < cols; ++c) {
        double sum = 0.0;
        for (int i = 0; i < 4; ++i) {
          const int32_t row = std::clamp(int32_t(fy) - 1 + i, 0, in - 1);
          for (int j = 0; j < 4; ++j) {
            const int32_t col = std::clamp(int32_t(fx) - 1 + j, 0, in - 1);
            sum += wy[i] * wx[j] * table[(size_t(row) * in + col) * cols + c];
          }
        }
        out[(size_t(y) * out_w + x) * cols + c] = float(sum);
      }
    }
  }
  return out;
}

std::vector<float> position_rows(const VisionConfig& config, const float* table, int32_t tile_grid, int32_t grid_h, int32_t grid_w,
                                 bool interpolate_edges) {
  const int32_t stored = config.image_size / config.patch_size, cols = config.hidden_size;
  const auto resized = [&](int32_t h, int32_t w) {
    if (h == stored && w == stored) return std::vector<float>(table, table + size_t(stored) * stored * cols);
    return resize_positions(table, stored, h, w, cols);
  };
  if (interpolate_edges) return resized(grid_h, grid_w);
  const std::vector<float> full = resized(tile_grid, tile_grid);
  std::vector<float> out(size_t(grid_h) * grid_w * cols);
  for (int32_t y = 0; y < grid_h; ++y) {
    std::copy_n(full.data() + size_t(y) * tile_grid * cols, size_t(grid_w) * cols, out.data() + size_t(y) * grid_w * cols);
  }
  return out;
}

}  // namespace hvl

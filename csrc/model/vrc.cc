#include "csrc/model/vrc.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "csrc/program/builder.h"

namespace hvl {
namespace {

constexpr double kRelu6Scale = 6.0 / 255.0;

// A tensor between two layers: (side, side, padded channels), value = (u8 - zero_point) * scale.
struct Activation {
  BufferId buffer;
  int32_t side;
  int32_t channels;
  double scale;
  int32_t zero_point;
};

class Recorder {
 public:
  Recorder(const WeightStore& weights, std::vector<VrcLayer>& layers) : weights_(weights), layers_(layers), b_("vrc", 8) {}

  ProgramBuilder& builder() { return b_; }

  Activation stem(BufferId rgb, int32_t image_size, const std::string& name, int32_t outputs) {
    const VrcFloatLayer layer = read(name, outputs, 27, 1.0 / 128, 128, kRelu6Scale);
    layers_.push_back(pack_vrc_stem(layer));
    const int32_t side = (image_size + 1) / 2;
    Op op = weighted(OpKind::kVrcStem, rgb);
    op.i = {image_size, image_size, side, side, layers_.back().channels};
    return activation(op, side, outputs, kRelu6Scale, 0);
  }

  Activation depthwise(const Activation& x, const std::string& name, int32_t stride) {
    const VrcFloatLayer layer = read(name, x.channels, 9, x.scale, x.zero_point, kRelu6Scale);
    layers_.push_back(pack_vrc_depthwise(layer));
    const int32_t side = (x.side - 1) / stride + 1;
    Op op = weighted(OpKind::kVrcDepthwise, x.buffer);
    op.i = {x.side, x.side, side, side, layers_.back().channels, stride, x.zero_point};
    return activation(op, side, x.channels, kRelu6Scale, 0);
  }

  // 1x1 convolution; a projection (no ReLU6) has its own scale and may add a residual.
  Activation pointwise(const Activation& x, const std::string& name, int32_t outputs, double out_scale, int32_t out_zero_point,
                       const Activation* residual = nullptr) {
    const VrcFloatLayer layer = read(name, outputs, x.channels, x.scale, x.zero_point, out_scale);
    layers_.push_back(pack_vrc_pointwise(layer, x.channels));
    Op op = weighted(OpKind::kVrcPointwise, x.buffer);
    op.i = {x.side * x.side, vrc_padded(x.channels), layers_.back().k_groups, layers_.back().channels, out_zero_point};
    if (residual) {
      const VrcMultiplier m = vrc_residual_multiplier(name, residual->scale, out_scale);
      op.in[1] = residual->buffer;
      op.i[5] = m.multiplier;
      op.i[6] = m.shift;
    }
    return activation(op, x.side, outputs, out_scale, out_zero_point);
  }

  void pool(const Activation& x, const Activation& weight, BufferId pooled) {
    Op op;
    op.kind = OpKind::kVrcPool;
    op.in = {x.buffer, weight.buffer, kNone};
    op.out = pooled;
    op.i = {x.side * x.side, vrc_padded(x.channels), vrc_padded(weight.channels)};
    b_.append(op, "", DType::kU8, 0, 0);
  }

  // A linear layer on one vector. Inputs from gap_at on end the vector: between the channels and the size features lies padding.
  Activation linear(BufferId in, int32_t stored_inputs, int32_t vector_size, int32_t gap_at, const std::string& name, int32_t outputs,
                    double out_scale, BufferId out) {
    VrcFloatLayer layer = read(name, outputs, stored_inputs, kRelu6Scale, 0, out_scale);
    std::vector<int8_t> spread(size_t(outputs) * vector_size, 0);
    for (int32_t o = 0; o < outputs; ++o) {
      for (int32_t i = 0; i < stored_inputs; ++i) {
        const int32_t at = i < gap_at ? i : i - stored_inputs + vector_size;  // what follows the gap ends the vector
        spread[size_t(o) * vector_size + at] = layer.weight[size_t(o) * stored_inputs + i];
      }
    }
    layer.weight = spread.data();
    layers_.push_back(pack_vrc_pointwise(layer, vector_size));
    Op op = weighted(OpKind::kVrcPointwise, in);
    op.i = {1, layers_.back().k_groups * 4, layers_.back().k_groups, layers_.back().channels, 0};
    op.out = out;
    return activation(op, 1, outputs, out_scale, 0);
  }

 private:
  VrcFloatLayer read(const std::string& name, int32_t outputs, int32_t inputs, double in_scale, int32_t in_zero_point, double out_scale) {
    return {name, outputs, weights_.int8s(name + ".weight", int64_t(outputs) * inputs), weights_.floats(name + ".weight_scale", outputs),
            weights_.floats(name + ".bias", outputs), in_scale, in_zero_point, out_scale};
  }
  Op weighted(OpKind kind, BufferId in) {
    const std::string n = std::to_string(layers_.size() - 1);
    Op op;
    op.kind = kind;
    op.in[0] = in;
    op.weight = {b_.weight("weight " + n), b_.weight("bias " + n), b_.weight("multiplier " + n), b_.weight("shift " + n)};
    return op;
  }
  Activation activation(const Op& op, int32_t side, int32_t channels, double scale, int32_t zero_point) {
    const BufferId out = b_.append(op, "activation", DType::kU8, side * side, vrc_padded(channels));
    return {out, side, channels, scale, zero_point};
  }

  const WeightStore& weights_;
  std::vector<VrcLayer>& layers_;
  ProgramBuilder b_;
};

}  // namespace

Vrc::Vrc(const VrcConfig& config, const WeightStore& weights, const Prepare& prepare) : config_(config) {
  std::vector<VrcLayer> layers;
  Recorder r(weights, layers);
  ProgramBuilder& b = r.builder();
  const BufferId rgb = b.bound("rgb", DType::kU8, config.image_size * config.image_size, 3);
  const BufferId pooled = b.bound("pooled", DType::kU8, 1, pooled_size());
  const BufferId index = b.bound("index", DType::kU8, 1, kVrcLanes);
  const std::string backbone = "model.vrc.backbone.";
  const auto output_scale = [&](const std::string& name) { return double(*weights.floats(name + ".output_scale", 1)); };

  b.begin_section("vrc");
  Activation x = r.stem(rgb, config.image_size, backbone + "conv_stem.first_conv.convolution", config.stem_channels);
  int32_t number = 0;
  for (const auto& [expansion, channels, repeats, first_stride] : config.blocks) {
    for (int32_t repeat = 0; repeat < repeats; ++repeat, ++number) {
      const std::string layer = backbone + "layer." + std::to_string(number) + ".";
      const int32_t stride = repeat == 0 ? first_stride : 1;
      const Activation in = x;
      if (expansion > 1) x = r.pointwise(x, layer + "expand_1x1.convolution", in.channels * expansion, kRelu6Scale, 0);
      x = r.depthwise(x, layer + "conv_3x3.convolution", stride);
      const std::string reduce = layer + "reduce_1x1.convolution";
      const bool residual = stride == 1 && in.channels == channels && in.zero_point == 128;
      x = r.pointwise(x, reduce, channels, output_scale(reduce), 128, residual ? &in : nullptr);
    }
  }
  x = r.pointwise(x, backbone + "conv_1x1.convolution", config.last_channels, kRelu6Scale, 0);
  const Activation weight = r.pointwise(x, "model.vrc.pool", 1, kRelu6Scale, 0);
  r.pool(x, weight, pooled);
  const int32_t inputs = config.last_channels + (config.size_norm > 0 ? 2 : 0);
  const int32_t vector_size = config.size_norm > 0 ? vrc_padded(config.last_channels) + 2 : config.last_channels;
  const Activation h = r.linear(pooled, inputs, vector_size, config.last_channels, "model.vrc.fc1", config.hidden_size, kRelu6Scale, kNone);
  const double steps = std::max(1.0, double(config.grid.size()) - 1);
  r.linear(h.buffer, config.hidden_size, config.hidden_size, config.hidden_size, "model.vrc.fc2", 1, 1.0 / steps, index);
  b.end_section();

  // All layers in one place: the parts of each in the order of their slots, every part at a multiple of 128.
  const auto parts = [&](const VrcLayer& layer) {
    return std::array<std::pair<const void*, size_t>, 4>{{{layer.weight.data(), layer.weight.size()},
                                                          {layer.bias.data(), layer.bias.size() * 4},
                                                          {layer.multiplier.data(), layer.multiplier.size() * 4},
                                                          {layer.shift.data(), layer.shift.size() * 4}}};
  };
  const auto up = [](size_t n) { return (n + 127) / 128 * 128; };
  size_t total = 0;
  for (const VrcLayer& layer : layers) {
    for (const auto& [data, bytes] : parts(layer)) total += up(bytes);
  }
  weights_ = Arena(total);
  std::vector<std::array<ResolvedWeight, 4>> placed(layers.size());
  size_t at = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (int part = 0; part < 4; ++part) {
      const auto [data, bytes] = parts(layers[l])[part];
      std::memcpy(weights_.data() + at, data, bytes);
      placed[l][part].data = weights_.data() + at;
      placed[l][part].bytes = bytes;
      at += up(bytes);
    }
  }
  executable_ = prepare(b.finish(), [&](const std::string& name) {
    const size_t space = name.find(' ');
    const std::string part = name.substr(0, space);
    return placed[std::stoul(name.substr(space))][part == "weight" ? 0 : part == "bias" ? 1 : part == "multiplier" ? 2 : 3];
  });
}

int32_t Vrc::pooled_size() const { return vrc_padded(config_.last_channels) + kVrcLanes; }

void Vrc::set_size_features(int32_t height, int32_t width, uint8_t* pooled) const {
  if (config_.size_norm <= 0) return;
  const auto feature = [&](int32_t side) {
    return uint8_t(std::min<int64_t>(255, (int64_t(side) * 255 + config_.size_norm / 2) / config_.size_norm));
  };
  uint8_t* at = pooled + vrc_padded(config_.last_channels);
  at[0] = feature(width);
  at[1] = feature(height);
}

double Vrc::scale(uint8_t index) const { return config_.grid[std::min<size_t>(index, config_.grid.size() - 1)]; }

}  // namespace hvl

#include "kernels/vrc/pack.h"

#include <cmath>

#include "csrc/base/error.h"

namespace hvl {
namespace {

constexpr int32_t kStemDwords = 9;  // three rows of nine bytes, each row padded to three dwords
constexpr int32_t kTaps = 9;

void check_scale(const std::string& name, const char* what, double scale) {
  if (!(scale > 0) || !std::isfinite(scale)) {
    fail(ErrorKind::kCheckpoint, name, ": expected a positive, finite ", what, ", got ", scale, ": quantise the VRC again");
  }
}

// Fills bias, multiplier and shift; `per_output` weights belong to each output channel.
void pack_requant(const VrcFloatLayer& f, int32_t per_output, VrcLayer* layer) {
  check_scale(f.name, "input scale", f.in_scale);
  check_scale(f.name, "output scale", f.out_scale);
  layer->channels = vrc_padded(f.outputs);
  layer->bias.assign(layer->channels, 0);
  layer->multiplier.assign(layer->channels, 1 << 30);
  layer->shift.assign(layer->channels, 62);
  for (int32_t c = 0; c < f.outputs; ++c) {
    check_scale(f.name, "weight scale", f.weight_scale[c]);
    const double acc_scale = f.in_scale * double(f.weight_scale[c]);
    const VrcMultiplier m = vrc_multiplier(f.name, acc_scale / f.out_scale);
    int64_t sum = 0, magnitude = 0;
    for (int32_t i = 0; i < per_output; ++i) {
      const int32_t w = f.weight[int64_t(c) * per_output + i];
      sum += w;
      magnitude += w < 0 ? -w : w;
    }
    // The largest accumulator any input can give, and what it requantises to (half the range: room for the residual term).
    const double bias = std::floor(double(f.bias[c]) / acc_scale + 0.5) - double(f.in_zero_point * sum);
    const double largest = std::fabs(bias) + 255.0 * double(magnitude);
    if (!(largest <= 2147483647.0) || !(largest * (acc_scale / f.out_scale) <= 1073741824.0)) {
      fail(ErrorKind::kCheckpoint, f.name, ": channel ", c, " can reach an accumulator of ", largest, " with scale ", acc_scale / f.out_scale,
           ", beyond 32 bits: expected smaller biases or a larger weight scale");
    }
    layer->bias[c] = int32_t(bias);
    layer->multiplier[c] = m.multiplier;
    layer->shift[c] = m.shift;
  }
}

}  // namespace

VrcMultiplier vrc_multiplier(const std::string& name, double scale) {
  if (!(scale > 0) || !(scale < 1073741824.0)) {
    fail(ErrorKind::kCheckpoint, name, ": expected a requantisation scale above 0 and below 2^30, got ", scale);
  }
  int exponent = 0;
  double m = std::floor(std::frexp(scale, &exponent) * 2147483648.0 + 0.5);
  if (m == 2147483648.0) {
    m = 1073741824.0;
    ++exponent;
  }
  if (31 - exponent > 62) return {1 << 30, 62};
  return {int32_t(m), 31 - exponent};
}

VrcMultiplier vrc_residual_multiplier(const std::string& name, double in_scale, double out_scale) {
  const double scale = in_scale / out_scale;
  if (!(scale < 4194304.0)) {
    fail(ErrorKind::kCheckpoint, name, ": expected a residual scale below 2^22 times the output's, got ", in_scale, " and ", out_scale);
  }
  return vrc_multiplier(name, scale);
}

VrcLayer pack_vrc_stem(const VrcFloatLayer& f) {
  VrcLayer layer;
  pack_requant(f, 27, &layer);
  layer.weight.assign(size_t(layer.channels) * kStemDwords * 4, 0);
  for (int32_t c = 0; c < f.outputs; ++c) {
    int8_t* block = layer.weight.data() + int64_t(c / kVrcLanes) * kStemDwords * kVrcLanes * 4 + (c % kVrcLanes) * 4;
    for (int32_t rgb = 0; rgb < 3; ++rgb) {
      for (int32_t ky = 0; ky < 3; ++ky) {
        for (int32_t kx = 0; kx < 3; ++kx) {
          const int32_t i = 3 * kx + rgb;
          block[(3 * ky + i / 4) * kVrcLanes * 4 + i % 4] = f.weight[((int64_t(c) * 3 + rgb) * 3 + ky) * 3 + kx];
        }
      }
    }
  }
  return layer;
}

VrcLayer pack_vrc_depthwise(const VrcFloatLayer& f) {
  VrcLayer layer;
  pack_requant(f, kTaps, &layer);
  layer.weight.assign(size_t(layer.channels) * kTaps, 0);
  for (int32_t c = 0; c < f.outputs; ++c) {
    int8_t* block = layer.weight.data() + int64_t(c / kVrcLanes) * kTaps * kVrcLanes + c % kVrcLanes;
    for (int32_t t = 0; t < kTaps; ++t) block[t * kVrcLanes] = f.weight[int64_t(c) * kTaps + t];
  }
  return layer;
}

VrcLayer pack_vrc_pointwise(const VrcFloatLayer& f, int32_t inputs) {
  VrcLayer layer;
  layer.k_groups = (inputs + 3) / 4;
  pack_requant(f, inputs, &layer);
  layer.weight.assign(size_t(layer.channels) * layer.k_groups * 4, 0);
  for (int32_t c = 0; c < f.outputs; ++c) {
    int8_t* block = layer.weight.data() + int64_t(c / kVrcLanes) * layer.k_groups * kVrcLanes * 4 + (c % kVrcLanes) * 4;
    for (int32_t k = 0; k < inputs; ++k) block[int64_t(k / 4) * kVrcLanes * 4 + k % 4] = f.weight[int64_t(c) * inputs + k];
  }
  return layer;
}

}  // namespace hvl

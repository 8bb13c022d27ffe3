// Folded float-scaled int8 weights of the VRC -> what the kernels read. Double arithmetic in a fixed order: the same integers on every machine.
//   bias[c]       = floor(bias_f[c] / (s_in * s_w[c]) + 0.5)  - in_zero_point * sum of the channel's weights (the zero point folded in)
//   multiplier[c], shift[c]: s_in * s_w[c] / s_out = multiplier / 2^shift, see vrc_multiplier
// For the stem and depthwise kernels the padding holds the zero point, so the same correction is right at the border.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "kernels/vrc/vrc.h"

namespace hvl {

inline constexpr int32_t vrc_padded(int32_t channels) { return (channels + kVrcLanes - 1) / kVrcLanes * kVrcLanes; }

// scale = f * 2^e with f in [0.5, 1): multiplier = floor(f * 2^31 + 0.5) (2^30 and e + 1 when that is 2^31), shift = 31 - e.
// A scale below 2^-32 becomes 2^30 / 2^62, which rounds every int32 to 0.
struct VrcMultiplier {
  int32_t multiplier;
  int32_t shift;  // 1 .. 62
};
// Throws Error(kCheckpoint) naming `name` unless 0 < scale < 2^30.
VrcMultiplier vrc_multiplier(const std::string& name, double scale);

// Of the residual term: in_scale / out_scale, below 2^22 so that it adds up in int32. Throws Error(kCheckpoint).
VrcMultiplier vrc_residual_multiplier(const std::string& name, double in_scale, double out_scale);

struct VrcLayer {
  int32_t channels = 0;  // outputs, padded to kVrcLanes; padded outputs are the output's zero point
  int32_t k_groups = 0;  // pointwise: ceil(inputs / 4)
  std::vector<int8_t> weight;
  std::vector<int32_t> bias, multiplier, shift;  // (channels)

  VrcRequant requant() const { return {bias.data(), multiplier.data(), shift.data()}; }
};

// What a layer comes as. Scales are those of a real value: value = (u8 - zero point) * scale.
struct VrcFloatLayer {
  std::string name;       // for messages
  int32_t outputs;
  const int8_t* weight;   // (outputs, inputs of a group, kh, kw)
  const float* weight_scale;  // (outputs), positive
  const float* bias;      // (outputs)
  double in_scale;
  int32_t in_zero_point;  // 0 or 128
  double out_scale;
};

// Each throws Error(kCheckpoint), naming the layer, when a scale is not positive and finite, or when an accumulator or a
// requantised value could leave int32.
VrcLayer pack_vrc_stem(const VrcFloatLayer& layer);                      // weight (outputs, 3, 3, 3)
VrcLayer pack_vrc_depthwise(const VrcFloatLayer& layer);                 // weight (outputs, 1, 3, 3)
VrcLayer pack_vrc_pointwise(const VrcFloatLayer& layer, int32_t inputs); // weight (outputs, inputs)

}  // namespace hvl

// The layers of the VRC (a MobileNetV2 in integers; arithmetic: docs/checkpoint.md, section VRC).
//
// Activations are u8 in channel-last layout with channels padded to a multiple of kVrcLanes. An int8 tensor (the image less 128,
// or a projection) is stored plus 128, so every tensor is u8 with a zero point of 0 or 128 and one kernel serves both; the zero
// point of the input is folded into the bias when weights are packed (pack.h). Padded channels hold anything: their weights are 0.
// Requantisation, for channel c, the same to the bit everywhere:
//   q = (int64(acc) * multiplier[c] + 2^(shift[c] - 1)) >> shift[c]          multiplier in [2^30, 2^31), shift in 1 .. 62
// pack.h makes sure that acc and q fit int32 whatever the input.
#pragma once

#include <stdint.h>

namespace hvl {

inline constexpr int32_t kVrcLanes = 16;        // channels a block
inline constexpr int32_t kVrcPixelBlock = 8;    // pixels a work unit of vrc_pointwise
inline constexpr int32_t kVrcPoolMaxPixels = 32768;  // the sums of vrc_pool fit int32 up to here

struct VrcRequant {
  const int32_t* bias;        // (channels), what the accumulator starts from
  const int32_t* multiplier;  // (channels)
  const int32_t* shift;       // (channels)
};

// 3x3 convolution, stride 2, padding 1, of RGB pixels (zero point 128), ReLU6.
// out_height = (in_height + 1) / 2, out_width alike. Work unit: one output row.
struct VrcStemArgs {
  const uint8_t* in;     // (in_height, in_width, 3)
  uint8_t* out;          // (out_height, out_width, channels)
  int32_t in_height;
  int32_t in_width;
  int32_t out_height;
  int32_t out_width;
  int32_t channels;      // outputs, a multiple of kVrcLanes
  const int8_t* weight;  // (channels / 16, 9, 16, 4): dword 3 * ky + j, byte b = the weight of (ky, kx, rgb) with 3 * kx + rgb = 4 * j + b
  VrcRequant requant;
};

// 3x3 depthwise convolution, padding 1, ReLU6. out_height = (in_height - 1) / stride + 1. Work unit: one output row.
struct VrcDepthwiseArgs {
  const uint8_t* in;         // (in_height, in_width, channels)
  uint8_t* out;              // (out_height, out_width, channels)
  int32_t in_height;
  int32_t in_width;
  int32_t out_height;
  int32_t out_width;
  int32_t channels;          // a multiple of kVrcLanes
  int32_t stride;            // 1 or 2
  int32_t in_zero_point;     // 0 or 128: what the padding holds
  const int8_t* weight;      // (channels / 16, 9, 16)
  VrcRequant requant;
};

// 1x1 convolution, or a linear layer (pixels = 1): out = clamp(q + out_zero_point + residual term, 0, 255), where the residual
// term is ((residual - 128) * residual_multiplier + 2^(residual_shift - 1)) >> residual_shift. out must not overlap in; it may
// be the residual's memory. Work unit: kVrcPixelBlock consecutive pixels.
struct VrcPointwiseArgs {
  const uint8_t* in;         // (pixels, in_stride)
  uint8_t* out;              // (pixels, channels)
  int32_t pixels;
  int32_t in_stride;         // bytes from one pixel to the next, at least 4 * k_groups
  int32_t k_groups;          // ceil(inputs / 4)
  int32_t channels;          // outputs, a multiple of kVrcLanes
  const int8_t* weight;      // (channels / 16, k_groups, 16, 4)
  VrcRequant requant;
  int32_t out_zero_point;    // 0 (ReLU6) or 128 (projection)
  const uint8_t* residual;   // (pixels, channels), zero point 128, or null
  int32_t residual_multiplier;
  int32_t residual_shift;
};
inline int32_t vrc_pointwise_units(const VrcPointwiseArgs& a) { return (a.pixels + kVrcPixelBlock - 1) / kVrcPixelBlock; }

// Weighted mean over the pixels: w' = weight + 1, out[c] = (sum w' in[c] + (sum w') / 2) / (sum w'). At most kVrcPoolMaxPixels
// pixels, at least 1. Work unit: a block of kVrcLanes channels.
struct VrcPoolArgs {
  const uint8_t* in;       // (pixels, channels)
  const uint8_t* weight;   // (pixels, weight_stride), the first byte of each row
  uint8_t* out;            // (channels)
  int32_t pixels;
  int32_t channels;        // a multiple of kVrcLanes
  int32_t weight_stride;
};

}  // namespace hvl

// VRC layers, plain loops. The vectorised variants are compiled from kernels/tvm/vrc.py; a build without TVM compiles this file under
// their names too.
#include "kernels/vrc/vrc.h"

#include "kernels/tvm/variant.h"

namespace hvl {
namespace {

inline int32_t requantise(int32_t acc, int32_t multiplier, int32_t shift) {
  return int32_t((int64_t(acc) * multiplier + (int64_t(1) << (shift - 1))) >> shift);
}

inline uint8_t clamp_u8(int32_t v) { return uint8_t(v < 0 ? 0 : v > 255 ? 255 : v); }

inline uint8_t finish(const VrcRequant& r, int32_t channel, int32_t acc, int32_t offset) {
  return clamp_u8(requantise(acc, r.multiplier[channel], r.shift[channel]) + offset);
}

}  // namespace

void HVL_VARIANT(vrc_stem)(const VrcStemArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; ++y) {
    for (int32_t x = 0; x < a.out_width; ++x) {
      for (int32_t c = 0; c < a.channels; ++c) {
        const int8_t* w = a.weight + int64_t(c / kVrcLanes) * 9 * kVrcLanes * 4 + (c % kVrcLanes) * 4;
        int32_t acc = a.requant.bias[c];
        for (int32_t ky = 0; ky < 3; ++ky) {
          for (int32_t i = 0; i < 9; ++i) {
            const int32_t iy = 2 * y - 1 + ky;
            const int32_t ix = 2 * x - 1 + i / 3;
            const bool inside = iy >= 0 && iy < a.in_height && ix >= 0 && ix < a.in_width;
            const int32_t pixel = inside ? a.in[(int64_t(iy) * a.in_width + ix) * 3 + i % 3] : 128;
            acc += pixel * w[(3 * ky + i / 4) * kVrcLanes * 4 + i % 4];
          }
        }
        a.out[(int64_t(y) * a.out_width + x) * a.channels + c] = finish(a.requant, c, acc, 0);
      }
    }
  }
}

void HVL_VARIANT(vrc_depthwise)(const VrcDepthwiseArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; ++y) {
    for (int32_t x = 0; x < a.out_width; ++x) {
      for (int32_t c = 0; c < a.channels; ++c) {
        const int8_t* w = a.weight + int64_t(c / kVrcLanes) * 9 * kVrcLanes + c % kVrcLanes;
        int32_t acc = a.requant.bias[c];
        for (int32_t ky = 0; ky < 3; ++ky) {
          for (int32_t kx = 0; kx < 3; ++kx) {
            const int32_t iy = y * a.stride - 1 + ky;
            const int32_t ix = x * a.stride - 1 + kx;
            const bool inside = iy >= 0 && iy < a.in_height && ix >= 0 && ix < a.in_width;
            const int32_t pixel = inside ? a.in[(int64_t(iy) * a.in_width + ix) * a.channels + c] : a.in_zero_point;
            acc += pixel * w[(3 * ky + kx) * kVrcLanes];
          }
        }
        a.out[(int64_t(y) * a.out_width + x) * a.channels + c] = finish(a.requant, c, acc, 0);
      }
    }
  }
}

void HVL_VARIANT(vrc_pointwise)(const VrcPointwiseArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t first = int64_t(begin) * kVrcPixelBlock;
  const int64_t wanted = int64_t(end) * kVrcPixelBlock;
  const int64_t last = wanted < a.pixels ? wanted : a.pixels;
  for (int64_t p = first; p < last; ++p) {
    const uint8_t* in = a.in + p * a.in_stride;
    for (int32_t c = 0; c < a.channels; ++c) {
      const int8_t* w = a.weight + int64_t(c / kVrcLanes) * a.k_groups * kVrcLanes * 4 + (c % kVrcLanes) * 4;
      int32_t acc = a.requant.bias[c];
      for (int32_t k = 0; k < a.k_groups; ++k) {
        for (int32_t b = 0; b < 4; ++b) acc += int32_t(in[4 * k + b]) * w[int64_t(k) * kVrcLanes * 4 + b];
      }
      int32_t offset = a.out_zero_point;
      if (a.residual) {
        offset += requantise(int32_t(a.residual[p * a.channels + c]) - 128, a.residual_multiplier, a.residual_shift);
      }
      a.out[p * a.channels + c] = finish(a.requant, c, acc, offset);
    }
  }
}

void HVL_VARIANT(vrc_pool)(const VrcPoolArgs& a, int32_t begin, int32_t end) noexcept {
  int32_t total = 0;
  for (int32_t p = 0; p < a.pixels; ++p) total += a.weight[int64_t(p) * a.weight_stride] + 1;
  for (int32_t c = begin * kVrcLanes; c < end * kVrcLanes; ++c) {
    int32_t sum = total / 2;
    for (int32_t p = 0; p < a.pixels; ++p) {
      sum += (a.weight[int64_t(p) * a.weight_stride] + 1) * a.in[int64_t(p) * a.channels + c];
    }
    a.out[c] = uint8_t(sum / total);
  }
}

}  // namespace hvl

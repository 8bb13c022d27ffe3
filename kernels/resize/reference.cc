// Resampling, plain loops (variants: kernels/tvm/image.py).
#include "kernels/resize/resize.h"

#include "kernels/tvm/variant.h"

namespace hvl {
namespace {

constexpr int32_t kPrecision = 22;

inline uint8_t round_clamp(int32_t acc) {
  const int32_t v = acc >> kPrecision;
  return uint8_t(v < 0 ? 0 : v > 255 ? 255 : v);
}

}  // namespace

void HVL_VARIANT(resize_horizontal)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* row = a.in + int64_t(y) * a.in_width * 3;
    uint8_t* out = a.out + int64_t(y) * a.out_size * 3;
    for (int32_t x = 0; x < a.out_size; ++x) {
      const int32_t* w = a.weights + int64_t(x) * a.taps;
      const uint8_t* in = row + int64_t(a.first[x]) * 3;
      for (int32_t c = 0; c < 3; ++c) {
        int32_t acc = 1 << (kPrecision - 1);
        for (int32_t t = 0; t < a.taps; ++t) acc += in[int64_t(t) * 3 + c] * w[t];
        out[int64_t(x) * 3 + c] = round_clamp(acc);
      }
    }
  }
}

void HVL_VARIANT(resize_vertical)(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t stride = int64_t(a.in_width) * 3;
  for (int32_t y = begin; y < end; ++y) {
    const int32_t* w = a.weights + int64_t(y) * a.taps;
    const uint8_t* in = a.in + a.first[y] * stride;
    for (int64_t i = 0; i < stride; ++i) {
      int32_t acc = 1 << (kPrecision - 1);
      for (int32_t t = 0; t < a.taps; ++t) acc += in[t * stride + i] * w[t];
      a.out[y * stride + i] = round_clamp(acc);
    }
  }
}

}  // namespace hvl

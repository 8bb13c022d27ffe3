// The VRC variants of one instruction set: calls into the functions kernels/tvm/vrc.py compiled, or, in a build without TVM, the reference
// body. Included by avx2.cc and avx512vnni.cc.
#ifndef HVL_TVM_KERNELS
#include "kernels/vrc/reference.cc"
#else

#include "kernels/vrc/vrc.h"

#define HVL_POINTWISE_ARGS                                                                                                            \
  const uint8_t *in, uint8_t *out, const uint8_t *residual, const int8_t *weight, const int32_t *bias, const int32_t *multiplier,    \
      const int32_t *shift, int64_t groups, int64_t in_stride, int64_t k_groups, int64_t channels, int32_t zero_point,               \
      int32_t has_residual, int32_t residual_multiplier, int32_t residual_shift, int32_t high
#define HVL_DEPTHWISE_WIDE_ARGS                                                                                                       \
  const uint8_t *in, uint8_t *out, const int8_t *weight, const int32_t *bias, const int32_t *multiplier, const int32_t *shift,       \
      int64_t in_height, int64_t in_width, int64_t out_width, int64_t channels, int32_t zero_point, int64_t begin, int64_t end,      \
      int64_t first, int64_t last, int64_t table

extern "C" {
void HVL_TVM_FUNCTION(vrc_stem)(const uint8_t* in, uint8_t* out, const int8_t* weight, const int32_t* bias, const int32_t* multiplier,
                                const int32_t* shift, int64_t in_height, int64_t in_width, int64_t out_width, int64_t channels,
                                int64_t row, int32_t high) noexcept;
void HVL_TVM_FUNCTION(vrc_depthwise)(const uint8_t* in, uint8_t* out, const int8_t* weight, const int32_t* bias, const int32_t* multiplier,
                                     const int32_t* shift, int64_t in_height, int64_t in_width, int64_t out_width, int64_t channels,
                                     int64_t stride, int32_t zero_point, int64_t row, int32_t high) noexcept;
void HVL_TVM_FUNCTION(vrc_depthwise_wide)(HVL_DEPTHWISE_WIDE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_depthwise_wide_two)(HVL_DEPTHWISE_WIDE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_depthwise_half)(HVL_DEPTHWISE_WIDE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_depthwise_half_two)(HVL_DEPTHWISE_WIDE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_pointwise)(HVL_POINTWISE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_pointwise_one)(HVL_POINTWISE_ARGS) noexcept;
void HVL_TVM_FUNCTION(vrc_pool)(const uint8_t* in, const uint8_t* weight, uint8_t* out, int64_t pixels, int64_t channels,
                                int64_t weight_stride, int64_t begin, int64_t end) noexcept;
}

namespace hvl {
namespace {

// Whether every shift exceeds 32, as they do where outputs are not much finer than inputs times weights: requantisation is faster then.
inline bool all_high(const VrcRequant& r, int32_t channels) {
  int32_t least = 62;
  for (int32_t c = 0; c < channels; ++c) least = r.shift[c] < least ? r.shift[c] : least;
  return least > 32;
}

constexpr int32_t kDepthwiseRows = 8;  // that pass through one group of channels while their input is in the cache

}  // namespace

void HVL_VARIANT(vrc_stem)(const VrcStemArgs& a, int32_t begin, int32_t end) noexcept {
  const VrcRequant& r = a.requant;
  const bool high = all_high(r, a.channels);
  for (int32_t y = begin; y < end; ++y) {
    HVL_TVM_FUNCTION(vrc_stem)(a.in, a.out, a.weight, r.bias, r.multiplier, r.shift, a.in_height, a.in_width, a.out_width, a.channels, y,
                               high);
  }
}

void HVL_VARIANT(vrc_depthwise)(const VrcDepthwiseArgs& a, int32_t begin, int32_t end) noexcept {
  const VrcRequant& r = a.requant;
  const bool high = all_high(r, a.channels);
  constexpr int32_t kWide = HVL_TVM_CHANNELS, kHalf = kWide / 2;
  if (high && a.channels >= kHalf) {
    const auto wide = a.stride == 1 ? HVL_TVM_FUNCTION(vrc_depthwise_wide) : HVL_TVM_FUNCTION(vrc_depthwise_wide_two);
    const auto half = a.stride == 1 ? HVL_TVM_FUNCTION(vrc_depthwise_half) : HVL_TVM_FUNCTION(vrc_depthwise_half_two);
    // Channels left over after whole vectors: half ones, where one group of them is enough.
    const int32_t rest = a.channels % kWide;
    const int32_t whole = rest <= kHalf || a.channels < kWide ? a.channels - rest : a.channels;
    alignas(64) uint8_t table[8 * 4 * kWide];
    const auto table_at = int64_t(reinterpret_cast<uintptr_t>(table) - reinterpret_cast<uintptr_t>(a.out));
    for (int32_t y = begin; y < end; y += kDepthwiseRows) {
      const int32_t last = end - y < kDepthwiseRows ? end : y + kDepthwiseRows;
      const auto run = [&](auto function, int32_t from, int32_t to) {
        function(a.in, a.out, a.weight, r.bias, r.multiplier, r.shift, a.in_height, a.in_width, a.out_width, a.channels, a.in_zero_point, y,
                 last, from, to, table_at);
      };
      if (whole > 0) run(wide, 0, whole);
      if (whole < a.channels) run(half, whole > 0 ? a.channels - kHalf : 0, a.channels);
    }
    return;
  }
  for (int32_t y = begin; y < end; ++y) {
    HVL_TVM_FUNCTION(vrc_depthwise)(a.in, a.out, a.weight, r.bias, r.multiplier, r.shift, a.in_height, a.in_width, a.out_width, a.channels,
                                    a.stride, a.in_zero_point, y, high);
  }
}

void HVL_VARIANT(vrc_pointwise)(const VrcPointwiseArgs& a, int32_t begin, int32_t end) noexcept {
  const VrcRequant& r = a.requant;
  const int64_t first = int64_t(begin) * kVrcPixelBlock;
  const int64_t wanted = int64_t(end) * kVrcPixelBlock;
  const int64_t last = wanted < a.pixels ? wanted : a.pixels;
  if (first >= last) return;
  const int64_t groups = (last - first) / HVL_TVM_PIXELS;
  const int64_t tail = first + groups * HVL_TVM_PIXELS;
  const uint8_t* residual = a.residual ? a.residual : a.in;  // not read without has_residual
  const int64_t residual_stride = a.residual ? a.channels : 0;
  const int32_t has_residual = a.residual != nullptr;
  const bool high = all_high(r, a.channels);
  HVL_TVM_FUNCTION(vrc_pointwise)(a.in + first * a.in_stride, a.out + first * a.channels, residual + first * residual_stride, a.weight,
                                  r.bias, r.multiplier, r.shift, groups, a.in_stride, a.k_groups, a.channels, a.out_zero_point, has_residual,
                                  a.residual_multiplier, a.residual_shift, high);
  HVL_TVM_FUNCTION(vrc_pointwise_one)(a.in + tail * a.in_stride, a.out + tail * a.channels, residual + tail * residual_stride, a.weight,
                                      r.bias, r.multiplier, r.shift, last - tail, a.in_stride, a.k_groups, a.channels, a.out_zero_point,
                                      has_residual, a.residual_multiplier, a.residual_shift, high);
}

void HVL_VARIANT(vrc_pool)(const VrcPoolArgs& a, int32_t begin, int32_t end) noexcept {
  HVL_TVM_FUNCTION(vrc_pool)(a.in, a.weight, a.out, a.pixels, a.channels, a.weight_stride, begin, end);
}

}  // namespace hvl

#endif

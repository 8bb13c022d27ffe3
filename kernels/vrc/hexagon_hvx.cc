// The layers of the VRC in HVX (vrc.h), equal to reference.cc.
//
// What bounds them: stem and pointwise, putting four inputs of a pixel into all lanes, for the instruction takes a multiplier as vrmpy does: two of
// these and two vrmpy for 8 inputs and 32 channels; depthwise, one packet for the products of a tap and one for their sums, of 128 channels.
#include "kernels/vrc/hexagon_requant.h"

namespace hvl {
namespace {

using namespace hexagon;

constexpr int32_t kWide = 128;   // channels of a depthwise step
constexpr int32_t kPixels = 4;   // that share weights
constexpr int32_t kStemDwords = 9;

template <typename T, bool kAligned>
HVL_HVX T load_inputs(const uint8_t* x) {
  if constexpr (kAligned) return *reinterpret_cast<const T*>(x);
  T inputs;
  __builtin_memcpy(&inputs, x, sizeof inputs);
  return inputs;
}

// Dots of kPixels pixels, `k_groups` times 4 inputs each, with two blocks of 16 channels (or one twice) -> 32 channels a pixel. kAligned: pixels are
// to 8 bytes.
template <bool kAligned>
HVL_HVX void dots(const uint8_t* const (&x)[kPixels], int32_t k_groups, const int8_t* first, const int8_t* second, Vector (&out)[kPixels]) {
  const HVX_VectorPred lower = Q6_Q_vsetq_R(64);
  Vector a[kPixels], b[kPixels];
  for (int p = 0; p < kPixels; ++p) a[p] = b[p] = zero();
  int32_t k = 0;
  for (; k + 2 <= k_groups; k += 2) {  // 4 inputs in the lower half of a vector, 4 in the upper
    const Vector wa = load_unaligned(first + 64 * k), wb = load_unaligned(second + 64 * k);
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      const auto inputs = load_inputs<int64_t, kAligned>(x[p] + 4 * k);
      const Vector both = Q6_V_vmux_QVV(lower, splat(int32_t(inputs)), splat(int32_t(inputs >> 32)));
      a[p] = Q6_Vw_vrmpyacc_VwVubVb(a[p], both, wa);
      b[p] = Q6_Vw_vrmpyacc_VwVubVb(b[p], both, wb);
    }
  }
  if (k < k_groups) {
    const Vector wa = Q6_V_vand_QV(lower, load_bytes(first + 64 * k, 64)), wb = Q6_V_vand_QV(lower, load_bytes(second + 64 * k, 64));
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      const Vector inputs = splat(load_inputs<int32_t, kAligned>(x[p] + 4 * k));
      a[p] = Q6_Vw_vrmpyacc_VwVubVb(a[p], inputs, wa);
      b[p] = Q6_Vw_vrmpyacc_VwVubVb(b[p], inputs, wb);
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    out[p] = Q6_V_vmux_QVV(lower, Q6_Vw_vadd_VwVw(a[p], Q6_V_vror_VR(a[p], 64)), Q6_Vw_vadd_VwVw(b[p], Q6_V_vror_VR(b[p], 64)));
  }
}

// 32 channels from c on (or 16) of pixels [begin, end).
template <bool kAligned, bool kHigh>
void pointwise_of(const VrcPointwiseArgs& a, int32_t c, const Requant& requant, int64_t begin, int64_t end) {
  const int32_t n = least(a.channels - c, kLanes);
  const int8_t* first = a.weight + int64_t{c / kVrcLanes} * a.k_groups * 64;
  const int8_t* second = n > kVrcLanes ? first + int64_t{a.k_groups} * 64 : first;
  const Requant of_residual = {zero(), splat(a.residual_multiplier), splat(a.residual_shift)};
  for (int64_t pixel = begin; pixel < end; pixel += kPixels) {
    const uint8_t* x[kPixels];
    for (int32_t p = 0; p < kPixels; ++p) x[p] = a.in + (pixel + p < end ? pixel + p : end - 1) * a.in_stride;
    Vector sums[kPixels];
    dots<kAligned>(x, a.k_groups, first, second, sums);
    for (int32_t p = 0; p < kPixels && pixel + p < end; ++p) {
      const int64_t at = (pixel + p) * a.channels + c;
      Vector y = Q6_Vw_vadd_VwVw(requantise<kHigh>(sums[p], requant), splat(a.out_zero_point));
      if (a.residual) {
        const HVX_VectorPair halves = Q6_Wuh_vunpack_Vub(load_bytes(a.residual + at, n));
        const Vector words = Q6_V_lo_W(Q6_Wuw_vunpack_Vuh(Q6_V_lo_W(halves)));
        y = Q6_Vw_vadd_VwVw(y, requantise<false>(Q6_Vw_vsub_VwVw(words, splat(128)), of_residual));
      }
      store_bytes(a.out + at, n, to_bytes(y));
    }
  }
}

// n channels, at most 128, from c on: one register of each of the nine taps.
void load_taps(const int8_t* weight, int32_t c, int32_t n, Vector (&taps)[9]) {
  alignas(kVectorBytes) int8_t rows[9][kWide] = {};
  for (int32_t i = 0; i < n; i += kVrcLanes) {
    const int8_t* block = weight + int64_t{(c + i) / kVrcLanes} * 9 * kVrcLanes;
    for (int32_t t = 0; t < 9; ++t) __builtin_memcpy(rows[t] + i, block + t * kVrcLanes, kVrcLanes);
  }
  for (int t = 0; t < 9; ++t) taps[t] = *reinterpret_cast<const Vector*>(rows[t]);
}

// In the order in which products of bytes come out: channels 0, 4, 8 ..; 2, 6 ..; 1, 5 ..; 3, 7 ...
HVL_HVX void by_fours(const Vector (&in)[4], Vector (&out)[4]) {
  const HVX_VectorPair first = Q6_W_vdeal_VVR(in[1], in[0], -4), second = Q6_W_vdeal_VVR(in[3], in[2], -4);
  const HVX_VectorPair even = Q6_W_vdeal_VVR(Q6_V_lo_W(second), Q6_V_lo_W(first), -4);
  const HVX_VectorPair odd = Q6_W_vdeal_VVR(Q6_V_hi_W(second), Q6_V_hi_W(first), -4);
  out[0] = Q6_V_lo_W(even);
  out[1] = Q6_V_hi_W(even);
  out[2] = Q6_V_lo_W(odd);
  out[3] = Q6_V_hi_W(odd);
}

void load_requants(const VrcRequant& r, int32_t c, int32_t n, Requant (&out)[4]) {
  Vector bias[4], multiplier[4], shift[4], dealt[3][4];
  for (int i = 0; i < 4; ++i) {
    const int32_t left = most(least(n - i * kLanes, kLanes), 0);
    const Requant some = left > 0 ? load_requant(r, c + i * kLanes, left) : Requant{zero(), zero(), splat(33)};
    bias[i] = some.bias;
    multiplier[i] = some.multiplier;
    shift[i] = some.shift;
  }
  by_fours(bias, dealt[0]);
  by_fours(multiplier, dealt[1]);
  by_fours(shift, dealt[2]);
  for (int i = 0; i < 4; ++i) out[i] = {dealt[0][i], dealt[1][i], dealt[2][i]};
}

template <bool kHigh>
void depthwise_of(const VrcDepthwiseArgs& a, int32_t y, int32_t c, int32_t n, const Vector (&taps)[9], const Requant (&requant)[4]) {
  const Vector outside = splat(int32_t(uint32_t(a.in_zero_point) * 0x01010101u));
  for (int32_t x = 0; x < a.out_width; ++x) {
    Vector in[9];
    for (int ky = 0; ky < 3; ++ky) {
      const int32_t iy = y * a.stride - 1 + ky;
      const bool row_inside = iy >= 0 && iy < a.in_height;
      for (int kx = 0; kx < 3; ++kx) {
        const int32_t ix = x * a.stride - 1 + kx;
        in[3 * ky + kx] = row_inside && ix >= 0 && ix < a.in_width ? load_bytes(a.in + (int64_t{iy} * a.in_width + ix) * a.channels + c, n) : outside;
      }
    }
    HVX_VectorPair even = Q6_W_vcombine_VV(zero(), zero()), odd = even;
#pragma unroll
    for (int t = 0; t < 8; t += 2) {
      const HVX_VectorPair p = Q6_Wh_vmpy_VubVb(in[t], taps[t]), q = Q6_Wh_vmpy_VubVb(in[t + 1], taps[t + 1]);
      even = Q6_Ww_vaddacc_WwVhVh(even, Q6_V_lo_W(p), Q6_V_lo_W(q));
      odd = Q6_Ww_vaddacc_WwVhVh(odd, Q6_V_hi_W(p), Q6_V_hi_W(q));
    }
    const HVX_VectorPair last = Q6_Wh_vmpy_VubVb(in[8], taps[8]);
    even = Q6_Ww_vaddacc_WwVhVh(even, Q6_V_lo_W(last), zero());
    odd = Q6_Ww_vaddacc_WwVhVh(odd, Q6_V_hi_W(last), zero());
    const Vector halves[2] = {Q6_Vh_vsat_VwVw(requantise<kHigh>(Q6_V_hi_W(even), requant[1]), requantise<kHigh>(Q6_V_lo_W(even), requant[0])),
                              Q6_Vh_vsat_VwVw(requantise<kHigh>(Q6_V_hi_W(odd), requant[3]), requantise<kHigh>(Q6_V_lo_W(odd), requant[2]))};
    const Vector bytes = Q6_Vub_vsat_VhVh(halves[1], halves[0]);
    uint8_t* out = a.out + (int64_t{y} * a.out_width + x) * a.channels + c;
    n == kWide ? store_unaligned(out, bytes) : store_bytes(out, n, bytes);
  }
}

// 3 lines of 3 pixels, 12 bytes each, of outputs x0 .. x0 + kPixels - 1 of a row. Weights of a line's last three bytes are zero.
void gather_squares(const VrcStemArgs& a, int32_t y, int32_t x0, uint8_t (&squares)[kPixels][4 * kStemDwords + 4]) {
  __builtin_memset(squares, 128, sizeof squares);
  for (int32_t p = 0; p < kPixels && x0 + p < a.out_width; ++p) {
    const int32_t left = 2 * (x0 + p) - 1, from = most(left, 0), bytes = 3 * (least(left + 3, a.in_width) - from);
    for (int32_t ky = 0; ky < 3; ++ky) {
      const int32_t iy = 2 * y - 1 + ky;
      if (iy < 0 || iy >= a.in_height) continue;
      const uint8_t* in = a.in + (int64_t{iy} * a.in_width + from) * 3;
      uint8_t* to = squares[p] + 12 * ky + 3 * (from - left);
      for (int32_t i = 0; i < bytes; ++i) to[i] = in[i];
    }
  }
}

}  // namespace

void vrc_stem_hvx(const VrcStemArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t c = 0; c < a.channels; c += kLanes) {
    const int32_t n = least(a.channels - c, kLanes);
    const Requant requant = load_requant(a.requant, c, n);
    const int8_t* first = a.weight + int64_t{c / kVrcLanes} * kStemDwords * 64;
    const int8_t* second = n > kVrcLanes ? first + kStemDwords * 64 : first;
    for (int32_t y = begin; y < end; ++y) {
      for (int32_t x0 = 0; x0 < a.out_width; x0 += kPixels) {
        alignas(8) uint8_t squares[kPixels][4 * kStemDwords + 4];
        gather_squares(a, y, x0, squares);
        const uint8_t* const at[kPixels] = {squares[0], squares[1], squares[2], squares[3]};
        Vector sums[kPixels];
        dots<true>(at, kStemDwords, first, second, sums);
        for (int32_t p = 0; p < kPixels && x0 + p < a.out_width; ++p) {
          store_bytes(a.out + (int64_t{y} * a.out_width + x0 + p) * a.channels + c, n, to_bytes(requantise<false>(sums[p], requant)));
        }
      }
    }
  }
}

void vrc_depthwise_hvx(const VrcDepthwiseArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t c = 0; c < a.channels; c += kWide) {
    const int32_t n = least(a.channels - c, kWide);
    Vector taps[9];
    Requant requant[4];
    load_taps(a.weight, c, n, taps);
    load_requants(a.requant, c, n, requant);
    bool high = true;
    for (const Requant& r : requant) high &= shifts_are_high(r.shift);
    for (int32_t y = begin; y < end; ++y) high ? depthwise_of<true>(a, y, c, n, taps, requant) : depthwise_of<false>(a, y, c, n, taps, requant);
  }
}

void vrc_pointwise_hvx(const VrcPointwiseArgs& a, int32_t begin, int32_t end) noexcept {
  const int64_t first = int64_t{begin} * kVrcPixelBlock, wanted = int64_t{end} * kVrcPixelBlock, last = wanted < a.pixels ? wanted : a.pixels;
  const bool aligned = (reinterpret_cast<uintptr_t>(a.in) | uintptr_t(a.in_stride)) % 8 == 0;
  for (int32_t c = 0; c < a.channels; c += kLanes) {
    const Requant requant = load_requant(a.requant, c, least(a.channels - c, kLanes));
    if (!aligned || !shifts_are_high(requant.shift)) {
      pointwise_of<false, false>(a, c, requant, first, last);
    } else {
      pointwise_of<true, true>(a, c, requant, first, last);
    }
  }
}

void vrc_pool_hvx(const VrcPoolArgs& a, int32_t begin, int32_t end) noexcept {
  uint32_t total = 0;
  for (int32_t p = 0; p < a.pixels; ++p) total += uint32_t(a.weight[int64_t{p} * a.weight_stride]) + 1;
  for (int32_t c = begin * kVrcLanes; c < end * kVrcLanes; c += kWide) {
    const int32_t n = least(end * kVrcLanes - c, kWide);
    HVX_VectorPair even = Q6_W_vcombine_VV(zero(), zero()), odd = even;
    for (int32_t p = 0; p < a.pixels; ++p) {
      const Vector in = load_bytes(a.in + int64_t{p} * a.channels + c, n);
      const HVX_VectorPair once = Q6_Wuh_vzxt_Vub(in), weighted = Q6_Wuh_vmpy_VubRub(in, int32_t(a.weight[int64_t{p} * a.weight_stride] * 0x01010101u));
      even = Q6_Ww_vaddacc_WwVuhVuh(even, Q6_V_lo_W(once), Q6_V_lo_W(weighted));
      odd = Q6_Ww_vaddacc_WwVuhVuh(odd, Q6_V_hi_W(once), Q6_V_hi_W(weighted));
    }
    alignas(kVectorBytes) Vector sums[4] = {Q6_V_lo_W(even), Q6_V_lo_W(odd), Q6_V_hi_W(even), Q6_V_hi_W(odd)};  // channels 0, 4 ..; 1, 5 ..; ...
    const auto* words = reinterpret_cast<const uint32_t*>(sums);
    for (int32_t i = 0; i < n; ++i) a.out[c + i] = uint8_t((words[i % 4 * kLanes + i / 4] + total / 2) / total);
  }
}

}  // namespace hvl

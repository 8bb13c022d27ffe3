// RMSNorm and LayerNorm in HVX, equal to fixed.cc. Three passes over a row: its extent (and for LayerNorm its sum), the sum of squares of
// 16-bit values, the results; between them some 200 packets of numbers of the row as a whole (kernels/common/hexagon_rms.h), which is most
// of a row as short as a head's.
//
// Bound by the last pass: three multiplications of 32 x 16 bits, three shifts and three (LayerNorm: four) loads and stores for 32 words,
// each of them one a packet; it takes 5.25 packets for 32 words, all of RMSNorm 0.34 a word in rows of 2048.
//
// Tails are not in the loops over vectors: of such a loop, which the tail would leave from its middle, clang 22 loses the last turn.
#include "kernels/common/hexagon_rms.h"
#include "kernels/common/hexagon_vector.h"
#include "kernels/norm/norm.h"

namespace hvl {
namespace {

using hexagon::kLanes;
using hexagon::load;
using hexagon::Pair;
using hexagon::Vector;

// op over all lanes.
template <class Op>
HVL_HVX int32_t reduce(Vector v, const Op& op) {
  for (int32_t bytes = 64; bytes >= 4; bytes /= 2) v = op(v, Q6_V_vror_VR(v, bytes));
  return Q6_R_vextract_VR(v, 0);
}
HVL_HVX int32_t total(Vector v) {
  return reduce(v, [](Vector a, Vector b) { return Q6_Vw_vadd_VwVw(a, b); });
}
HVL_HVX int32_t largest(Vector v) {
  return reduce(v, [](Vector a, Vector b) { return Q6_Vw_vmax_VwVw(a, b); });
}
// The first n words of v, less than 32, and those of `others` behind them.
HVL_HVX Vector first(int32_t n, Vector v, Vector others) { return Q6_V_vmux_QVV(Q6_Q_vsetq_R(4 * n), v, others); }

struct Extent {
  Vector least, most;  // a lane each
  int64_t sum;         // of LayerNorm
};

template <bool kAligned, bool kLayer>
__attribute__((noinline)) Extent extent_of(const int32_t* x, int32_t n) {
  // The low half of a word is summed less 2^15, which makes it an int16.
  const Vector flip = Q6_V_vsplat_R(0x8000), zero = Q6_V_vzero();
  const auto halves = [&](Pair sums, Vector a, Vector b) __attribute__((always_inline)) {
    return Q6_Ww_vaddacc_WwVhVh(sums, Q6_V_vxor_VV(a, flip), Q6_V_vxor_VV(b, flip));
  };
  Vector least = Q6_V_vsplat_R(INT32_MAX), most = Q6_V_vsplat_R(INT32_MIN);
  Pair sums = Q6_W_vcombine_VV(zero, zero);
  const int32_t pairs = n / (2 * kLanes);
  for (int32_t i = 0; i < pairs; ++i) {
    const Vector a = load<kAligned>(x), b = load<kAligned>(x + kLanes);
    least = Q6_Vw_vmin_VwVw(least, Q6_Vw_vmin_VwVw(a, b));
    most = Q6_Vw_vmax_VwVw(most, Q6_Vw_vmax_VwVw(a, b));
    if constexpr (kLayer) sums = halves(sums, a, b);
    x += 2 * kLanes;
  }
  int32_t vectors = 2 * pairs;
  if (n & kLanes) {
    const Vector a = load<kAligned>(x);
    least = Q6_Vw_vmin_VwVw(least, a);
    most = Q6_Vw_vmax_VwVw(most, a);
    if constexpr (kLayer) sums = Q6_Ww_vaddacc_WwVhVh(sums, Q6_V_vxor_VV(a, flip), zero);
    ++vectors;
    x += kLanes;
  }
  if (const int32_t left = n % kLanes) {
    const Vector a = hexagon::load_words(x, left);
    least = Q6_Vw_vmin_VwVw(least, first(left, a, least));
    most = Q6_Vw_vmax_VwVw(most, first(left, a, most));
    if constexpr (kLayer) sums = Q6_Ww_vaddacc_WwVhVh(sums, Q6_V_vxor_VV(a, flip), zero);
    ++vectors;
  }
  if constexpr (!kLayer) return {least, most, 0};
  const int64_t low = total(Q6_V_lo_W(sums)) + int64_t{vectors} * kLanes * 32768;
  return {least, most, int64_t{total(Q6_V_hi_W(sums))} * 65536 + low};
}

// Sum of the squares of x - mean at 16 bits, s places down; kTop: s is 16.
template <bool kAligned, bool kLayer, bool kTop>
__attribute__((noinline)) uint64_t squares_of(const int32_t* x, int32_t n, int32_t mean, int32_t s) {
  const Vector means = Q6_V_vsplat_R(mean), least = Q6_V_vsplat_R(int32_t(0x80018001)), zero = Q6_V_vzero();
  const auto centred = [&](Vector v) __attribute__((always_inline)) { return kLayer ? Q6_Vw_vsub_VwVw_sat(v, means) : v; };
  const auto squares = [&](Vector a, Vector b) __attribute__((always_inline)) {
    const Vector q = kTop ? Q6_Vh_vround_VwVw_sat(b, a) : Q6_Vh_vasr_VwVwR_rnd_sat(b, a, s);
    const Vector limited = Q6_Vh_vmax_VhVh(q, least);
    return Q6_Vw_vdmpy_VhVh_sat(limited, limited);  // at most 2^31 - 131070
  };
  Pair sums = Q6_W_vcombine_VV(zero, zero);  // of the low halves of the squares, of the high halves
  const int32_t blocks = n / (4 * kLanes);
  for (int32_t i = 0; i < blocks; ++i) {
    const Vector p = squares(centred(load<kAligned>(x)), centred(load<kAligned>(x + kLanes)));
    const Vector r = squares(centred(load<kAligned>(x + 2 * kLanes)), centred(load<kAligned>(x + 3 * kLanes)));
    sums = Q6_Ww_vaddacc_WwVuhVuh(sums, p, r);
    x += 4 * kLanes;
  }
  for (int32_t vectors = n / kLanes % 4; vectors > 0; --vectors) {
    sums = Q6_Ww_vaddacc_WwVuhVuh(sums, squares(centred(load<kAligned>(x)), zero), zero);
    x += kLanes;
  }
  if (const int32_t left = n % kLanes) {
    const Vector d = first(left, centred(hexagon::load_words(x, left)), zero);
    sums = Q6_Ww_vaddacc_WwVuhVuh(sums, squares(d, zero), zero);
  }
  return (uint64_t(uint32_t(total(Q6_V_hi_W(sums)))) << 16) + uint32_t(total(Q6_V_lo_W(sums)));
}

// round_down of `product` by -8 - exponent of the weights' words, whatever the exponents.
HVL_HVX Vector scaled_any(Vector product, Vector weight) {
  const Vector one = Q6_V_vsplat_R(1), zero = Q6_V_vzero(), most = Q6_V_vsplat_R(31);
  const Vector exponent = Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(weight, 16), 16);
  const Vector n = Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(fixed::kUnitFraction - fixed::kFraction - 15), exponent);
  const Vector left = Q6_Vw_vmin_VwVw(Q6_Vw_vmax_VwVw(Q6_Vw_vsub_VwVw(zero, n), zero), most);
  const Vector right = Q6_Vw_vmax_VwVw(Q6_Vw_vsub_VwVw(Q6_Vw_vmin_VwVw(n, most), one), zero);
  const Vector up = Q6_Vw_vasl_VwVw(product, left);
  const Vector limit = Q6_V_vxor_VV(Q6_Vw_vasr_VwR(product, 31), Q6_V_vsplat_R(INT32_MAX));
  const Vector limited = Q6_V_vmux_QVV(Q6_Q_vcmp_eq_VwVw(Q6_Vw_vasr_VwVw(up, left), product), up, limit);
  const Vector down = Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwVw(product, right), zero);
  return Q6_V_vmux_QVV(Q6_Q_vcmp_gt_VwVw(n, zero), down, limited);
}

constexpr int kBlock = 4;  // vectors of results at once

struct Row {
  const int32_t *x, *weight, *bias;
  int32_t* out;
  int32_t mean;
  fixed::InverseRms inverse;
};

// kPlain: both shifts are to the right, by one place at least.
template <bool kAligned, bool kLayer, bool kPlain>
__attribute__((noinline)) void write_row(const Row& row, int32_t n) {
  const int32_t places = row.inverse.shift < 31 ? row.inverse.shift : 31, lift = row.inverse.lift;
  const int32_t places_less_one = places > 0 ? places - 1 : 0;
  const Vector zero = Q6_V_vzero(), means = Q6_V_vsplat_R(row.mean), mantissa = Q6_V_vsplat_R(row.inverse.mantissa);
  const Vector unmoved = Q6_V_vsplat_R(places == 0 ? -1 : 0);
  const Vector base = Q6_V_vsplat_R(int32_t(0xfff7fff7)), most = Q6_V_vsplat_R(0x001e001e);  // of int16: -9; 30
  const auto value = [&](Vector x, Vector weight, Vector bias) __attribute__((always_inline)) {
    const Vector d = kLayer ? Q6_Vw_vsub_VwVw_sat(x, means) : x;
    const Vector unit = hexagon::mul31(Q6_Vw_vasl_VwR(d, lift), mantissa);
    // Rounded: half of what one place less leaves, and 1; or, where it does not move, of twice itself.
    const Vector rounded = Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwR(unit, places_less_one), kPlain ? zero : Q6_V_vand_VV(unit, unmoved));
    const Vector product = Q6_Vw_vmpyo_VwVh_s1_rnd_sat(rounded, weight);
    Vector y;
    if constexpr (kPlain) {  // a shift looks at the lowest bits of a word only: the even half
      const Vector down = Q6_Vh_vmin_VhVh(Q6_Vh_vsub_VhVh_sat(base, weight), most);
      y = Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwVw(product, down), zero);
    } else {
      y = scaled_any(product, weight);
    }
    return kLayer ? Q6_Vw_vadd_VwVw_sat(y, bias) : y;
  };
  const int32_t *x = row.x, *weight = row.weight, *bias = row.bias;
  int32_t* out = row.out;
  // So many at once: each waits for itself, but not for the others.
  const auto values = [&]<int kVectors>() __attribute__((always_inline)) {
    Vector y[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int32_t at = v * kLanes;
      y[v] = value(load<kAligned>(x + at), load<kAligned>(weight + at), kLayer ? load<kAligned>(bias + at) : zero);
    }
    for (int v = 0; v < kVectors; ++v) hexagon::store<kAligned>(out + v * kLanes, y[v]);
    x += kVectors * kLanes;
    weight += kVectors * kLanes;
    if constexpr (kLayer) bias += kVectors * kLanes;
    out += kVectors * kLanes;
  };
  const int32_t vectors = n / kLanes;
  for (int32_t blocks = vectors / kBlock; blocks > 0; --blocks) values.template operator()<kBlock>();
  for (int32_t single = vectors % kBlock; single > 0; --single) values.template operator()<1>();
  if (const int32_t left = n % kLanes) {
    const Vector biases = kLayer ? hexagon::load_words(bias, left) : zero;
    hexagon::store_words(out, left, value(hexagon::load_words(x, left), hexagon::load_words(weight, left), biases));
  }
}

// Whether -8 - exponent is positive for all n words of weights.
template <bool kAligned>
__attribute__((noinline)) bool small_weights(const int32_t* weight, int32_t n) {
  Vector most = Q6_V_vsplat_R(int32_t(0x80008000));  // of all halves, the exponents being the even ones
  for (int32_t vectors = n / kLanes; vectors > 0; --vectors) {
    most = Q6_Vh_vmax_VhVh(most, load<kAligned>(weight));
    weight += kLanes;
  }
  if (const int32_t left = n % kLanes) most = Q6_Vh_vmax_VhVh(most, first(left, hexagon::load_words(weight, left), most));
  return largest(Q6_Vw_vasr_VwR(Q6_Vw_vasl_VwR(most, 16), 16)) < fixed::kUnitFraction - fixed::kFraction - 15;
}

template <bool kAligned, bool kLayer>
void norm_rows(const NormArgs& args, int32_t begin, int32_t end) {
  const int32_t n = args.cols;
  const auto* weight = reinterpret_cast<const int32_t*>(args.weight);
  const auto* bias = reinterpret_cast<const int32_t*>(args.bias);
  const hexagon::Divider divider(n);
  const fixed::Scalar eps = fixed::scalar(args.eps);
  const bool small = small_weights<kAligned>(weight, n);
  for (int32_t r = begin; r < end; ++r) {
    Row row = {reinterpret_cast<const int32_t*>(args.x) + r * int32_t(args.x_stride), weight, bias,
               reinterpret_cast<int32_t*>(args.out) + r * int32_t(args.out_stride), 0, {}};
    Extent extent = extent_of<kAligned, kLayer>(row.x, n);
    if constexpr (kLayer) {  // not negative: 2^31 more in each place
      uint32_t rest;
      row.mean = int32_t(uint32_t(divider.of_long(uint64_t(extent.sum + n / 2 + (int64_t{n} << 31)), &rest)) - 0x80000000u);
      extent.least = Q6_Vw_vsub_VwVw_sat(extent.least, Q6_V_vsplat_R(row.mean));
      extent.most = Q6_Vw_vsub_VwVw_sat(extent.most, Q6_V_vsplat_R(row.mean));
    }
    const int32_t bits = fixed::width(largest(Q6_Vw_vmax_VwVw(extent.most, Q6_V_vnot_V(extent.least))));
    const uint64_t squares = bits == 31 ? squares_of<kAligned, kLayer, true>(row.x, n, row.mean, 16)
                                        : squares_of<kAligned, kLayer, false>(row.x, n, row.mean, bits > 15 ? bits - 15 : 0);
    row.inverse = hexagon::inverse_rms(squares, bits, divider, eps);
    small && row.inverse.shift > 0 ? write_row<kAligned, kLayer, true>(row, n) : write_row<kAligned, kLayer, false>(row, n);
  }
}

bool aligned(const NormArgs& args) {
  const auto at = [](const void* p) { return hexagon::offset_in_vector(p); };
  return (at(args.x) | at(args.weight) | at(args.bias) | at(args.out)) == 0 && (args.x_stride | args.out_stride) % kLanes == 0;
}

}  // namespace

void norm_hvx(const NormArgs& args, int32_t begin, int32_t end) noexcept {
  if (args.kind == NormKind::kLayer) {
    aligned(args) ? norm_rows<true, true>(args, begin, end) : norm_rows<false, true>(args, begin, end);
  } else {
    aligned(args) ? norm_rows<true, false>(args, begin, end) : norm_rows<false, false>(args, begin, end);
  }
}

}  // namespace hvl

// Activations in HVX, equal to fixed.cc. 128 words at a time, whose tails are 16-bit values: two vectors of 64.
//
// Bound by the unit that shifts and permutes: 8 `vlut16`, which take both of these, and 5 shifts for 128 words; so 13 packets at least,
// 0.10 a word; it takes 0.18, for each step of the cubics waits for the one before. silu_mul adds the 64-bit products, for 32 words two
// multiplications of 32 x 16 bits and three shifts: 0.28 a word.
#include "kernels/activation/activation.h"
#include "kernels/activation/fixed_tables.h"
#include "kernels/common/fixed.h"
#include "kernels/common/hexagon_vector.h"

namespace hvl {
namespace {

using hexagon::kBlock;
using hexagon::Pair;
using hexagon::Vector;

// A table with each coefficient in the even half of a word, where vlut16 looks for 32 entries.
struct alignas(128) WideTable {
  int32_t words[4][fixed::kTailSegments];
};
constexpr WideTable widen(const fixed::TailTable& table) {
  WideTable wide = {};
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < fixed::kTailSegments; ++i) wide.words[c][i] = uint16_t(table.coefficients[c][i]);
  }
  return wide;
}
// Whether the cubic of every segment stays in 16 bits, in which the kernel computes it; and its index in the bits that shifts have.
constexpr bool fits(const fixed::TailTable& table) {
  for (int i = 0; i < fixed::kTailSegments; ++i) {
    int32_t most = 0;
    for (int c = 0; c < 4; ++c) most += (table.coefficients[c][i] < 0 ? -1 : 1) * table.coefficients[c][i] + 1;
    if (most > INT16_MAX) return false;
  }
  return table.shift >= 0 && table.shift <= 15 && fixed::kTailFraction == fixed::kFraction + 1;
}

template <const fixed::TailTable& kTable>
struct Tailed {
  static_assert(fits(kTable));
  static constexpr WideTable kWide = widen(kTable);

  HVL_HVX void operator()(const Vector (&x)[kBlock], Vector (&y)[kBlock]) const {
    const auto* table = reinterpret_cast<const Vector*>(kWide.words);
    Vector a[kBlock], t[kBlock / 2], h[kBlock / 2], index[kBlock / 4];
    for (int v = 0; v < kBlock; ++v) a[v] = Q6_Vw_vabs_Vw_sat(x[v]);
    for (int v = 0; v < kBlock / 2; ++v) {
      const Vector low = Q6_Vh_vasl_VhR(Q6_Vh_vshuffe_VhVh(a[2 * v + 1], a[2 * v]), 15 - kTable.shift);
      t[v] = Q6_V_vand_VV(low, Q6_V_vsplat_R(0x7fff7fff));
    }
    for (int q = 0; q < kBlock / 4; ++q) {  // 32 and more are in neither half of the table: 0
      const Vector first = Q6_Vh_vasr_VwVwR_sat(a[4 * q + 1], a[4 * q], kTable.shift);
      const Vector second = Q6_Vh_vasr_VwVwR_sat(a[4 * q + 3], a[4 * q + 2], kTable.shift);
      index[q] = Q6_Vub_vasr_VhVhR_sat(second, first, 0);
    }
#pragma unroll
    for (int c = 3; c >= 0; --c) {
      for (int q = 0; q < kBlock / 4; ++q) {
        const Pair next = Q6_Wh_vlut16or_WhVbVhI(Q6_Wh_vlut16_VbVhI(index[q], table[c], 0), index[q], table[c], 1);
        for (int v = 2 * q; v < 2 * q + 2; ++v) {
          const Vector coefficient = v % 2 ? Q6_V_hi_W(next) : Q6_V_lo_W(next);
          h[v] = c == 3 ? coefficient : Q6_Vh_vadd_VhVh(Q6_Vh_vmpy_VhVh_s1_rnd_sat(h[v], t[v]), coefficient);
        }
      }
    }
    for (int v = 0; v < kBlock / 2; ++v) {
      const Vector zero = Q6_V_vzero(), minus_tail = Q6_Vh_vnavg_VhVh(zero, h[v]);  // -((h + 1) >> 1) = -h >> 1
      const Pair positive = Q6_W_vcombine_VV(Q6_Vw_vmax_VwVw(x[2 * v + 1], zero), Q6_Vw_vmax_VwVw(x[2 * v], zero));
      const Pair sum = Q6_Ww_vaddacc_WwVhVh(positive, minus_tail, zero);
      y[2 * v] = Q6_V_lo_W(sum);
      y[2 * v + 1] = Q6_V_hi_W(sum);
    }
  }
};

template <class Function>
void activate(const ActivationArgs& args, int32_t begin, int32_t end, const Function& function) {
  const int32_t* const x[1] = {reinterpret_cast<const int32_t*>(args.x) + begin * args.cols};
  auto* out = reinterpret_cast<int32_t*>(args.out) + begin * args.cols;
  hexagon::map(x, out, (end - begin) * args.cols, [&](const Vector (&in)[1][kBlock], Vector (&y)[kBlock]) __attribute__((always_inline)) {
    function(in[0], y);
  });
}

// sat((a * b + 2^14) >> 15)
HVL_HVX Vector multiply(Vector a, Vector b) {
  const Pair product = Q6_W_vmpyoacc_WVwVh(Q6_W_vmpye_VwVuh(a, b), a, b);  // 64 bits: the low words, the high words
  const Vector half = Q6_V_vsplat_R(1 << (fixed::kFraction - 1));
  const Vector low = Q6_Vw_vadd_VwVw(Q6_V_lo_W(product), half);
  const HVX_VectorPred carry = Q6_Q_vcmp_gt_VuwVuw(half, low);
  const Vector high = Q6_Vw_condacc_QVwVw(carry, Q6_V_hi_W(product), Q6_V_vsplat_R(1));
  const Vector shifted = Q6_Vw_vaslacc_VwVwR(Q6_Vuw_vlsr_VuwR(low, fixed::kFraction), high, 32 - fixed::kFraction);
  return Q6_Vw_vsatdw_VwVw(Q6_Vw_vasr_VwR(high, fixed::kFraction), shifted);
}

}  // namespace

void activation_hvx(const ActivationArgs& args, int32_t begin, int32_t end) noexcept {
  switch (args.kind) {
    case ActivationKind::kGeluTanh:
      return activate(args, begin, end, Tailed<fixed::kGeluTanhTail>());
    case ActivationKind::kGeluErf:
      return activate(args, begin, end, Tailed<fixed::kGeluErfTail>());
    case ActivationKind::kSilu:
      return activate(args, begin, end, Tailed<fixed::kSiluTail>());
    case ActivationKind::kQuickGelu:
      return activate(args, begin, end, Tailed<fixed::kQuickGeluTail>());
    case ActivationKind::kRelu:
      return activate(args, begin, end, [](const Vector (&x)[kBlock], Vector (&y)[kBlock]) __attribute__((always_inline)) {
        for (int v = 0; v < kBlock; ++v) y[v] = Q6_Vw_vmax_VwVw(x[v], Q6_V_vzero());
      });
  }
}

void silu_mul_hvx(const SiluMulArgs& args, int32_t begin, int32_t end) noexcept {
  const int32_t first = begin * args.cols;
  const int32_t* const in[2] = {reinterpret_cast<const int32_t*>(args.gate) + first, reinterpret_cast<const int32_t*>(args.up) + first};
  auto* out = reinterpret_cast<int32_t*>(args.out) + first;
  hexagon::map(in, out, (end - begin) * args.cols, [](const Vector (&x)[2][kBlock], Vector (&y)[kBlock]) __attribute__((always_inline)) {
    Vector activated[kBlock];
    Tailed<fixed::kSiluTail>()(x[0], activated);
    for (int v = 0; v < kBlock; ++v) y[v] = multiply(activated[v], x[1][v]);
  });
}

}  // namespace hvl

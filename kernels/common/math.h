// exp, sigmoid, tanh and erf on sixteen lanes, with the same bits in every variant: fma, add, mul and div only, no libm.
//
// Include a vec16_*.h first. Coefficients are our own minimax fits in float64, rounded to float32; test_math.py holds the accuracy:
// exp within 2 ulp on [-104, 88] (exp(0) == 1), tanh and erf within 2e-7. NaN in, NaN out.
#pragma once

namespace hvl {
namespace {

using vec::Vec16;

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2.
struct ExpParts {
  Vec16 n;
  Vec16 r;
  Vec16 tail;  // exp(r) = 1 + r * tail
};

HVL_VEC ExpParts exp_parts(Vec16 x) {
  // 1.5 * 2^23 pushes the fraction out of a float, so that adding it rounds to nearest even, even for NaN and without integers.
  const Vec16 magic = vec::set1(0x1.8p23f);
  const Vec16 n = vec::sub(vec::fma(x, vec::set1(0x1.715476p0f), magic), magic);
  // ln 2 in two parts; the first has trailing zeros enough for n * part to be exact.
  Vec16 r = vec::fma(n, vec::set1(-0x1.62e4p-1f), x);
  r = vec::fma(n, vec::set1(-0x1.7f7d1cp-20f), r);
  Vec16 tail = vec::fma(r, vec::set1(0x1.6a2350p-10f), vec::set1(0x1.123a6ep-7f));
  tail = vec::fma(r, tail, vec::set1(0x1.5558f4p-5f));
  tail = vec::fma(r, tail, vec::set1(0x1.555490p-3f));
  tail = vec::fma(r, tail, vec::set1(0x1.fffffcp-2f));
  tail = vec::fma(r, tail, vec::set1(1.0f));
  return {n, r, tail};
}

// 0 below about -103.98, infinity above about 88.73.
HVL_VEC Vec16 exp(Vec16 x) {
  // The limits lie where the result is 0 and infinity already. x comes second, so that NaN passes.
  x = vec::min(vec::set1(89.0f), vec::max(vec::set1(-105.0f), x));
  const ExpParts e = exp_parts(x);
  return vec::scale_exp2(vec::fma(e.r, e.tail, vec::set1(1.0f)), e.n);
}

// 1 / (1 + exp(-x))
HVL_VEC Vec16 sigmoid(Vec16 x) {
  const Vec16 one = vec::set1(1.0f);
  return vec::div(one, vec::add(one, exp(vec::sub(vec::zero(), x))));
}

// tanh(|x|) = t / (t + 2) with t = exp(2|x|) - 1, which keeps its relative accuracy down to 0.
HVL_VEC Vec16 tanh(Vec16 x) {
  const Vec16 a = vec::min(vec::set1(10.0f), vec::abs(x));  // 1 to the last bit from 9.02 on
  const ExpParts e = exp_parts(vec::add(a, a));
  const Vec16 one = vec::set1(1.0f);
  const Vec16 power = vec::scale_exp2(one, e.n);
  const Vec16 t = vec::fma(power, vec::mul(e.r, e.tail), vec::sub(power, one));
  return vec::copysign(vec::div(t, vec::add(t, vec::set1(2.0f))), x);
}

// erfc(a) for a >= 0, as exp(-a^2) * Q(u) with u = a / (a + 2) and Q(0) = 1.
HVL_VEC Vec16 erfc_positive(Vec16 a) {
  a = vec::min(vec::set1(11.0f), a);  // exp(-121) is 0 already
  const Vec16 u = vec::div(a, vec::add(a, vec::set1(2.0f)));
  Vec16 q = vec::fma(u, vec::set1(-0x1.cb1356p-6f), vec::set1(0x1.2bd11ep-3f));
  q = vec::fma(u, q, vec::set1(-0x1.4348b8p-6f));
  q = vec::fma(u, q, vec::set1(-0x1.385ce8p-2f));
  q = vec::fma(u, q, vec::set1(-0x1.1a0f34p-2f));
  q = vec::fma(u, q, vec::set1(0x1.be4770p0f));
  q = vec::fma(u, q, vec::set1(-0x1.20dd7ap1f));
  q = vec::fma(u, q, vec::set1(1.0f));
  return vec::mul(exp(vec::mul(a, vec::sub(vec::zero(), a))), q);
}

HVL_VEC Vec16 erf(Vec16 x) { return vec::copysign(vec::sub(vec::set1(1.0f), erfc_positive(vec::abs(x))), x); }

}  // namespace
}  // namespace hvl

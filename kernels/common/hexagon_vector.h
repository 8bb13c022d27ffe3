// What HVX kernels on rows of int32 share: loads and stores of any alignment and length, and a loop over blocks of vectors.
//
// The first and the last vector of a row belong to others too: they are stored under a mask, and nothing is loaded but vectors that hold
// one of the row's own words.
#pragma once

#include <hexagon_protos.h>
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stdint.h>

#define HVL_HVX __attribute__((always_inline)) inline

namespace hvl::hexagon {

using Vector = HVX_Vector;
using Pair = HVX_VectorPair;

namespace {

constexpr int32_t kLanes = 32, kBlock = 8;  // words of a vector; vectors that `map` does at once

HVL_HVX uint32_t offset_in_vector(const void* p) { return uint32_t(reinterpret_cast<uintptr_t>(p)) % sizeof(Vector); }

template <bool kAligned = false>
HVL_HVX Vector load(const void* p) {
  if constexpr (kAligned) return *static_cast<const HVX_Vector*>(p);
  return *static_cast<const HVX_UVector*>(p);
}
template <bool kAligned = false>
HVL_HVX void store(void* p, Vector v) {
  if constexpr (kAligned) {
    *static_cast<HVX_Vector*>(p) = v;
  } else {
    *static_cast<HVX_UVector*>(p) = v;
  }
}

// The first `bytes` bytes, 1 to 128; the others are anything.
HVL_HVX Vector load_bytes(const void* p, int32_t bytes) {
  const uint32_t from = offset_in_vector(p);
  if (from + uint32_t(bytes) > sizeof(Vector)) return load(p);
  return Q6_V_vror_VR(load<true>(static_cast<const uint8_t*>(p) - from), int32_t(from));
}
HVL_HVX void store_bytes(void* p, int32_t bytes, Vector v) {
  const uint32_t from = offset_in_vector(p), to = from + uint32_t(bytes);
  auto* at = reinterpret_cast<Vector*>(static_cast<uint8_t*>(p) - from);
  const Vector turned = Q6_V_vror_VR(v, -int32_t(from));
  const HVX_VectorPred before = Q6_Q_vsetq_R(int32_t(from)), until = Q6_Q_vsetq2_R(int32_t(to));
  if (to <= sizeof(Vector)) {
    Q6_vmem_QRIV(Q6_Q_and_QQn(until, before), at, turned);
  } else {
    Q6_vmem_QnRIV(before, at, turned);
    Q6_vmem_QRIV(until, at + 1, turned);
  }
}

// n words, at most 32; zeros behind them, for n <= 0 nothing else.
HVL_HVX Vector load_words(const int32_t* p, int32_t n) {
  if (n <= 0) return Q6_V_vzero();
  if (n >= kLanes) return load(p);
  return Q6_V_vmux_QVV(Q6_Q_vsetq_R(4 * n), load_bytes(p, 4 * n), Q6_V_vzero());
}
HVL_HVX void store_words(int32_t* p, int32_t n, Vector v) {
  if (n > 0) store_bytes(p, 4 * (n < kLanes ? n : kLanes), v);
}

// The kernels of fixed.h on 32 words.
HVL_HVX Vector mul31(Vector a, Vector b) { return Q6_Vw_vmpyoacc_VwVwVh_s1_rnd_sat_shift(Q6_Vw_vmpye_VwVuh(a, b), a, b); }

// kBlock vectors of each input -> as many of the output.
template <int kInputs, class Function>
HVL_HVX void map_words(const int32_t* const (&in)[kInputs], int32_t* out, int32_t n, const Function& function) {
  Vector x[kInputs][kBlock], y[kBlock];
  for (int i = 0; i < kInputs; ++i) {
    for (int v = 0; v < kBlock; ++v) x[i][v] = load_words(in[i] + v * kLanes, n - v * kLanes);
  }
  function(x, y);
  for (int v = 0; v < kBlock; ++v) store_words(out + v * kLanes, n - v * kLanes, y[v]);
}

template <bool kAligned, int kInputs, class Function>
__attribute__((noinline)) void map_blocks(const int32_t* const (&in)[kInputs], int32_t* out, int32_t blocks, const Function& function) {
  const int32_t* at[kInputs];
  for (int i = 0; i < kInputs; ++i) at[i] = in[i];
  for (int32_t block = 0; block < blocks; ++block) {
    Vector x[kInputs][kBlock], y[kBlock];
    for (int i = 0; i < kInputs; ++i) {
      for (int v = 0; v < kBlock; ++v) x[i][v] = load<kAligned>(at[i] + v * kLanes);
      at[i] += kBlock * kLanes;
    }
    function(x, y);
    for (int v = 0; v < kBlock; ++v) store<true>(out + v * kLanes, y[v]);
    out += kBlock * kLanes;
  }
}

// function(in, out) on n words: Vector (&in)[kInputs][kBlock] and Vector (&out)[kBlock]. `out` may be an input.
template <int kInputs, class Function>
void map(const int32_t* const (&in)[kInputs], int32_t* out, int32_t n, const Function& function) {
  const int32_t* at[kInputs];
  for (int i = 0; i < kInputs; ++i) at[i] = in[i];
  const auto advance = [&](int32_t words) {
    for (int i = 0; i < kInputs; ++i) at[i] += words;
    out += words;
    n -= words;
  };
  int32_t head = int32_t(-offset_in_vector(out) % sizeof(Vector)) / 4;  // until `out` is aligned
  if (head > n) head = n;
  if (head > 0) {
    map_words(at, out, head, function);
    advance(head);
  }
  bool aligned = true;
  for (int i = 0; i < kInputs; ++i) aligned &= offset_in_vector(at[i]) == 0;
  const int32_t blocks = n / (kBlock * kLanes);
  aligned ? map_blocks<true>(at, out, blocks, function) : map_blocks<false>(at, out, blocks, function);
  advance(blocks * kBlock * kLanes);
  if (n > 0) map_words(at, out, n, function);
}

}  // namespace
}  // namespace hvl::hexagon

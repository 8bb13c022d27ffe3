// Per-head RMSNorm and rotation in HVX, sixteen heads of a row at once where these are normed.
//
// What bounds it: 40 packets to rotate a head of 128, and 197 to norm it: three passes over it, and 64-bit numbers in plain C++ for the
// exact inverse.
#include "kernels/rope/hexagon_rms.h"
#include "kernels/rope/rope.h"

namespace hvl {
namespace {

using namespace hexagon;

struct Positions {
  const int32_t* cos;
  const int32_t* sin;
  const int32_t* weight;
  int32_t half;
};

enum class Norm { kNone, kRight, kLeft };

// One head, 32 values of both halves at a time.
template <Norm kNorm>
HVL_HVX void rotate_head(int32_t* x, const Positions& at, const fixed::InverseRms& inverse) {
  each_vector(at.half, [&](int32_t i, int32_t n) __attribute__((always_inline)) {
    Vector a = load_row(x + i, n), b = load_row(x + at.half + i, n);
    if constexpr (kNorm != Norm::kNone) {
      a = weighted<kNorm == Norm::kLeft>(unit(a, inverse), load_row(at.weight + i, n));
      b = weighted<kNorm == Norm::kLeft>(unit(b, inverse), load_row(at.weight + at.half + i, n));
    }
    const Vector cos = load_row(at.cos + i, n), sin = load_row(at.sin + i, n);
    store_row(x + i, n, Q6_Vw_vsub_VwVw_sat(mul31(a, cos), mul31(b, sin)));
    store_row(x + at.half + i, n, Q6_Vw_vadd_VwVw_sat(mul31(b, cos), mul31(a, sin)));
  });
}

template <Norm kNorm>
void rotate_row(int32_t* x, const Positions& at, int32_t heads, float eps) {
  const int32_t head_dim = 2 * at.half;
  for (int32_t head = 0, count; head < heads; head += count, x += count * head_dim) {
    count = least(heads - head, kMostRows);
    fixed::InverseRms inverse[kMostRows];
    if constexpr (kNorm != Norm::kNone) inverse_rms(x, head_dim, count, head_dim, eps, inverse);
    for (int32_t h = 0; h < count; ++h) rotate_head<kNorm>(x + h * head_dim, at, inverse[h]);
  }
}

}  // namespace

void rope_hvx(const RopeArgs& args, int32_t begin, int32_t end) noexcept {
  const auto* weight = reinterpret_cast<const int32_t*>(args.weight);
  const int32_t half = args.head_dim / 2;
  const auto rotate = !weight                           ? rotate_row<Norm::kNone>
                      : any_left(weight, args.head_dim) ? rotate_row<Norm::kLeft>
                                                        : rotate_row<Norm::kRight>;
  for (int32_t row = begin; row < end; ++row) {
    const int64_t position = int64_t{args.position + row} * half;
    const Positions at = {reinterpret_cast<const int32_t*>(args.cos) + position, reinterpret_cast<const int32_t*>(args.sin) + position,
                          weight, half};
    rotate(reinterpret_cast<int32_t*>(args.x) + row * args.x_stride, at, args.heads, args.eps);
  }
}

}  // namespace hvl

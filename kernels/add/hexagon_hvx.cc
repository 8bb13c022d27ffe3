// Saturating sums of activations (docs/integer_arithmetic.md), equal to fixed.cc to the bit. Bounded by its loads and stores: of aligned operands
// two fit into a packet, of others one.
#include "kernels/add/add.h"
#include "kernels/common/hexagon_vector.h"

namespace hvl {
namespace {

// Sums of `vectors` whole vectors, of operands at multiples of 128 bytes or anywhere.
void add_aligned(const int32_t* a, const int32_t* b, int32_t* out, int64_t vectors) {
  for (int64_t i = 0; i < vectors; ++i) {
    reinterpret_cast<HVX_Vector*>(out)[i] = Q6_Vw_vadd_VwVw_sat(reinterpret_cast<const HVX_Vector*>(a)[i], reinterpret_cast<const HVX_Vector*>(b)[i]);
  }
}
void add_anywhere(const int32_t* a, const int32_t* b, int32_t* out, int64_t vectors) {
  for (int64_t i = 0; i < vectors; ++i) {
    reinterpret_cast<HVX_UVector*>(out)[i] = Q6_Vw_vadd_VwVw_sat(reinterpret_cast<const HVX_UVector*>(a)[i], reinterpret_cast<const HVX_UVector*>(b)[i]);
  }
}

}  // namespace

void add_hvx(const AddArgs& args, int32_t begin, int32_t end) noexcept {
  const int64_t first = int64_t{begin} * args.cols, count = int64_t{end} * args.cols - first, whole = count / 32 * 32;
  const auto* a = reinterpret_cast<const int32_t*>(args.a) + first;
  const auto* b = reinterpret_cast<const int32_t*>(args.b) + first;
  auto* out = reinterpret_cast<int32_t*>(args.out) + first;
  const bool aligned = ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(out)) & 127) == 0;
  aligned ? add_aligned(a, b, out, whole / 32) : add_anywhere(a, b, out, whole / 32);
  if (whole == count) return;
  const int32_t bytes = int32_t(count - whole) * 4;
  hexagon::store_bytes(out + whole, bytes, Q6_Vw_vadd_VwVw_sat(hexagon::load_bytes(a + whole, bytes), hexagon::load_bytes(b + whole, bytes)));
}

}  // namespace hvl

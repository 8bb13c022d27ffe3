// Rows of an embedding as activations (docs/integer_arithmetic.md, section Embedding), equal to fixed.cc to the bit.
//
// What bounds it: a row's weights are four bytes of every vector of its block, and are gathered one word after the other.
#include "kernels/common/fixed.h"
#include "kernels/common/hexagon_vector.h"
#include "kernels/embed/embed.h"
#include "kernels/linear/fixed_weight.h"

namespace hvl {
namespace {

using Vector = HVX_Vector;
constexpr int32_t kColumns = 128;  // done at a time

// The bytes of kColumns weights of a row, or of fewer and then anything, from the words where its vectors have them.
Vector gather(const uint8_t* values, int32_t words, int32_t bits) {
  alignas(128) int32_t gathered[32] = {};
  for (int32_t j = 0; j < words; ++j) __builtin_memcpy(&gathered[j], values + 128 * j, sizeof gathered[j]);
  Vector bytes;
  __builtin_memcpy(&bytes, gathered, sizeof bytes);
  if (bits == 8) return bytes;
  // Low nibbles are k .. k+3, high ones k+4 .. k+7; stored plus 8.
  const Vector low = Q6_V_vand_VV(bytes, Q6_V_vsplat_R(0x0f0f0f0f)), high = Q6_Vub_vlsr_VubR(bytes, 4);
  return Q6_Vb_vsub_VbVb(Q6_V_lo_W(Q6_W_vshuff_VVR(high, low, -4)), Q6_V_vsplat_R(0x08080808));
}

// round_down(w, n) for 32 products, of fewer than 31 bits.
Vector round_down(Vector w, int32_t n) {
  if (n > 0) return Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwR(w, (n < 31 ? n : 31) - 1), Q6_V_vzero());
  const int32_t left = n > -31 ? -n : 31;
  return Q6_Vw_vsatdw_VwVw(Q6_Vw_vasr_VwR(w, left > 0 ? 32 - left : 31), Q6_Vw_vasl_VwR(w, left));
}

// out[0 .. columns) = (weights - zero point) * scale
void scale_columns(Vector weights, int32_t zero_point, fixed::WeightScale scale, int32_t* out, int32_t columns) {
  const HVX_VectorPair halves = Q6_Wh_vunpack_Vb(weights);
  const Vector mantissa = Q6_V_vsplat_R(scale.mantissa), zero = Q6_V_vsplat_R(zero_point);
  for (int32_t half = 0; half < 2; ++half) {
    const HVX_VectorPair words = Q6_Ww_vunpack_Vh(half == 0 ? Q6_V_lo_W(halves) : Q6_V_hi_W(halves));
    for (int32_t quarter = 0; quarter < 2; ++quarter) {
      const int32_t column = 64 * half + 32 * quarter, left = columns - column;
      if (left <= 0) return;
      const Vector whole = Q6_Vw_vsub_VwVw(quarter == 0 ? Q6_V_lo_W(words) : Q6_V_hi_W(words), zero);
      const Vector y = round_down(Q6_Vw_vmpyie_VwVuh(whole, mantissa), -fixed::kFraction - scale.exponent);
      hexagon::store_bytes(out + column, left < 32 ? left * 4 : 128, y);
    }
  }
}

void embed_row(const LinearWeight& weight, int32_t id, int32_t* out) {
  const uint8_t* group = weight.data + size_t(id / kLinearRowBlock) * linear_block_bytes(weight);
  const int32_t r = id % kLinearRowBlock, groups = linear_groups(weight), per_word = 32 / weight.bits;
  for (int32_t g = 0; g < groups; ++g, group += linear_group_bytes(weight)) {
    const fixed::WeightScale scale = fixed::weight_scale(weight, group, r);
    int16_t zero_point = 0;
    if (weight.zero_points) __builtin_memcpy(&zero_point, group + linear_scale_bytes(weight) + 2 * r, sizeof zero_point);
    const uint8_t* values = group + linear_header_bytes(weight) + 4 * r;
    const int32_t first = g * weight.group_size, left = weight.cols - first, columns = left < weight.group_size ? left : weight.group_size;
    for (int32_t column = 0; column < columns; column += kColumns) {
      const int32_t some = columns - column < kColumns ? columns - column : kColumns;
      const Vector weights = gather(values + column / per_word * 128, (some + per_word - 1) / per_word, weight.bits);
      scale_columns(weights, zero_point, scale, out + first + column, some);
    }
  }
}

}  // namespace

void embed_hvx(const EmbedArgs& args, int32_t begin, int32_t end) noexcept {
  auto* out = reinterpret_cast<int32_t*>(args.out);
  for (int32_t row = begin; row < end; ++row) {
    if (args.ids[row] >= 0) embed_row(args.weight, args.ids[row], out + row * args.out_stride);
  }
}

}  // namespace hvl

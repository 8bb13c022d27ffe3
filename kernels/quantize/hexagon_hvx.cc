// Activations to integers with a power of two a token and group (docs/integer_arithmetic.md, section Quantised rows), equal to fixed.cc to the
// bit. 128 columns at a time, which are one vector of each plane.
//
// What bounds it: the largest magnitude and the sums of a group are reductions within vectors, a rotation and an operation for each of five steps,
// each of which waits for the one before. Groups of whole vectors go by themselves; what is left of a row, and shorter groups, a column block at a time.
#include "kernels/common/fixed.h"
#include "kernels/common/hexagon_vector.h"
#include "kernels/quantize/quantize.h"

namespace hvl {
namespace {

using Vector = HVX_Vector;
constexpr int32_t kColumns = 128;  // of a vector of bytes

// kCount values of 4 / 2 bytes from `from` on, of which `left` exist; zeros in the place of others.
template <int kBytes>
inline Vector load_values(const uint8_t* from, int32_t left) {
  constexpr int32_t kCount = 128 / kBytes;
  if (left >= kCount) return *reinterpret_cast<const HVX_UVector*>(from);
  if (left <= 0) return Q6_V_vzero();
  return Q6_V_vand_QV(Q6_Q_vsetq2_R(left * kBytes), hexagon::load_bytes(from, left * kBytes));
}
inline Vector load_words(const int32_t* x, int32_t column, int32_t cols) {
  return load_values<4>(reinterpret_cast<const uint8_t*>(x + column), cols - column);
}

// The exponent of a group in every lane, from the magnitudes of its columns or-ed together lane by lane.
inline Vector group_exponent(Vector magnitudes, int32_t digits) {
  for (int32_t bytes = 64; bytes >= 4; bytes /= 2) magnitudes = Q6_V_vor_VV(magnitudes, Q6_V_vror_VR(magnitudes, bytes));
  const Vector width_beyond = Q6_Vw_vsub_VwVw(Q6_V_vsplat_R(32 - digits), Q6_Vuw_vcl0_Vuw(magnitudes));
  return Q6_Vw_vmax_VwVw(width_beyond, Q6_V_vzero());
}
inline Vector magnitude(Vector x) { return Q6_V_vxor_VV(x, Q6_Vw_vasr_VwR(x, 31)); }
// round_down: (x * 2^(1 - exponent) + 1) >> 1, shift is exponent - 1; an exponent of 0 is of values that have room for a bit more.
inline Vector rounded(Vector x, Vector shift) { return Q6_Vw_vavg_VwVw_rnd(Q6_Vw_vasr_VwVw(x, shift), Q6_V_vzero()); }
inline Vector halves_of(Vector lower, Vector upper, Vector least, Vector most) {
  return Q6_Vh_vmin_VhVh(Q6_Vh_vmax_VhVh(Q6_Vh_vpack_VwVw_sat(upper, lower), least), most);
}

// Writes 128 columns of a row, and the sums of every group that ends in them.
class RowWriter {
 public:
  RowWriter(const QuantizedRows& out, int32_t row)
      : groups_(quantized_groups(out.cols, out.group_size)),
        padded_cols_(groups_ * out.group_size),
        group_size_(out.group_size),
        planes_(out.bits / 8),
        first_(out.q + int64_t{row} * padded_cols_ * planes_),
        sums_(out.sums + 2 * int64_t{row} * groups_) {}

  int32_t padded_cols() const { return padded_cols_; }

  // Values `column` .. `column` + 63 and the 64 after them, as halfwords.
  void write(int32_t column, Vector values, Vector more) {
    const int32_t left = padded_cols_ - column, bytes = left < kColumns ? left : kColumns;
    const Vector ones = Q6_V_vsplat_R(0x01010101), low = Q6_Vb_vpacke_VhVh(more, values);
    if (planes_ == 1) {
      hexagon::store_bytes(first_ + column, bytes, low);
      sum_first_ = Q6_Vw_vrmpyacc_VwVbVb(sum_first_, low, ones);
      sum_low_ = Q6_V_vzero();
    } else {
      const Vector high = Q6_Vb_vpacko_VhVh(more, values);
      hexagon::store_bytes(first_ + column, bytes, high);
      hexagon::store_bytes(first_ + padded_cols_ + column, bytes, low);
      sum_first_ = Q6_Vw_vrmpyacc_VwVbVb(sum_first_, high, ones);
      sum_low_ = Q6_Vuw_vrmpyacc_VuwVubVub(sum_low_, low, ones);
    }
    if ((column + kColumns) % group_size_ == 0 || left <= kColumns) end_groups(column, bytes);
  }

 private:
  void end_groups(int32_t column, int32_t columns) {
    const int32_t step = group_size_ < kColumns ? group_size_ : kColumns;
    Vector sum = planes_ == 1 ? sum_first_ : Q6_Vw_vadd_VwVw(Q6_Vw_vasl_VwR(sum_first_, 8), sum_low_);
    for (int32_t bytes = step / 2; bytes >= 4; bytes /= 2) {
      sum = Q6_Vw_vadd_VwVw(sum, Q6_V_vror_VR(sum, bytes));
      sum_first_ = Q6_Vw_vadd_VwVw(sum_first_, Q6_V_vror_VR(sum_first_, bytes));
    }
    int32_t* sums = sums_ + 2 * (column / group_size_);
    for (int32_t at = 0; at < columns; at += step, sums += 2) {
      sums[0] = Q6_R_vextract_VR(sum, at);
      sums[1] = Q6_R_vextract_VR(sum_first_, at);
    }
    sum_first_ = Q6_V_vzero();
    sum_low_ = Q6_V_vzero();
  }

  int32_t groups_, padded_cols_, group_size_, planes_;
  uint8_t* first_;
  int32_t* sums_;
  Vector sum_first_ = Q6_V_vzero(), sum_low_ = Q6_V_vzero();  // of the group so far, in parts
};

// A group of kColumns columns, or several times that, all of which exist.
template <int kPlanes>
void quantize_group(const int32_t* x, int32_t columns, uint8_t* first, uint8_t* second, int32_t* exponent, int32_t* sums) {
  constexpr int32_t kDigits = 8 * kPlanes - 1;
  const Vector least = Q6_Vh_vsplat_R(1 - (1 << kDigits)), most = Q6_Vh_vsplat_R((1 << kDigits) - 1), ones = Q6_V_vsplat_R(0x01010101);
  Vector magnitudes = Q6_V_vzero(), sum_first = Q6_V_vzero(), sum_second = Q6_V_vzero();
  for (int32_t c = 0; c < columns; c += kColumns) {
    for (int i = 0; i < 4; ++i) magnitudes = Q6_V_vor_VV(magnitudes, magnitude(hexagon::load(x + c + 32 * i)));
  }
  const Vector of_group = group_exponent(magnitudes, kDigits), shift = Q6_Vw_vsub_VwVw(of_group, Q6_V_vsplat_R(1));
  *exponent = Q6_R_vextract_VR(of_group, 0);
  for (int32_t c = 0; c < columns; c += kColumns) {
    Vector q[4];
    for (int i = 0; i < 4; ++i) q[i] = rounded(hexagon::load(x + c + 32 * i), shift);
    const Vector lower = halves_of(q[0], q[1], least, most), upper = halves_of(q[2], q[3], least, most);
    const Vector low = Q6_Vb_vpacke_VhVh(upper, lower);
    if constexpr (kPlanes == 1) {
      hexagon::store(first + c, low);
      sum_first = Q6_Vw_vrmpyacc_VwVbVb(sum_first, low, ones);
    } else {
      const Vector high = Q6_Vb_vpacko_VhVh(upper, lower);
      hexagon::store(first + c, high);
      hexagon::store(second + c, low);
      sum_first = Q6_Vw_vrmpyacc_VwVbVb(sum_first, high, ones);
      sum_second = Q6_Vuw_vrmpyacc_VuwVubVub(sum_second, low, ones);
    }
  }
  // Both sums at once, one in each half of a vector.
  const Vector sum = kPlanes == 1 ? sum_first : Q6_Vw_vadd_VwVw(Q6_Vw_vasl_VwR(sum_first, 8), sum_second);
  const HVX_VectorPair both = Q6_W_vshuff_VVR(sum_first, sum, 64);
  Vector parts = Q6_Vw_vadd_VwVw(Q6_V_lo_W(both), Q6_V_hi_W(both));
  for (int32_t bytes = 32; bytes >= 4; bytes /= 2) parts = Q6_Vw_vadd_VwVw(parts, Q6_V_vror_VR(parts, bytes));
  sums[0] = Q6_R_vextract_VR(parts, 0);
  sums[1] = Q6_R_vextract_VR(parts, 64);
}

// The groups of a row that are whole, if they are of whole vectors. Returns the columns that this does.
int32_t quantize_groups(const QuantizeArgs& args, int32_t row) {
  const QuantizedRows& out = args.out;
  const int32_t size = out.group_size, groups = quantized_groups(out.cols, size), whole = size % kColumns == 0 ? out.cols / size : 0;
  const auto* x = reinterpret_cast<const int32_t*>(args.x) + row * args.x_stride;
  const int64_t at = int64_t{row} * groups;
  auto* exponents = reinterpret_cast<int32_t*>(out.scales) + at;
  uint8_t* first = out.q + at * size * (out.bits / 8);
  for (int32_t g = 0; g < whole; ++g, first += size) {
    int32_t* sums = out.sums + 2 * (at + g);
    out.bits == 16 ? quantize_group<2>(x + g * size, size, first, first + groups * size, exponents + g, sums)
                   : quantize_group<1>(x + g * size, size, first, nullptr, exponents + g, sums);
  }
  return whole * size;
}

void quantize_row(const QuantizeArgs& args, int32_t row, int32_t begin) {
  const QuantizedRows& out = args.out;
  const int32_t digits = out.bits - 1, group_size = out.group_size, cols = out.cols;
  const Vector least = Q6_Vh_vsplat_R(1 - (1 << digits)), most = Q6_Vh_vsplat_R((1 << digits) - 1);
  const auto* x = reinterpret_cast<const int32_t*>(args.x) + row * args.x_stride;
  auto* exponent = reinterpret_cast<int32_t*>(out.scales) + int64_t{row} * quantized_groups(cols, group_size) + begin / group_size;
  RowWriter writer(out, row);
  Vector shift = Q6_V_vzero();
  for (int32_t column = begin; column < writer.padded_cols(); column += kColumns) {
    Vector q[4];
    for (int i = 0; i < 4; ++i) {
      const int32_t first = column + 32 * i;
      if (first % group_size == 0 && first < writer.padded_cols()) {
        Vector magnitudes = Q6_V_vzero();
        for (int32_t c = first; c < first + group_size; c += 32) magnitudes = Q6_V_vor_VV(magnitudes, magnitude(load_words(x, c, cols)));
        const Vector of_group = group_exponent(magnitudes, digits);
        *exponent++ = Q6_R_vextract_VR(of_group, 0);
        shift = Q6_Vw_vsub_VwVw(of_group, Q6_V_vsplat_R(1));
      }
      q[i] = rounded(load_words(x, first, cols), shift);
    }
    writer.write(column, halves_of(q[0], q[1], least, most), halves_of(q[2], q[3], least, most));
  }
}

}  // namespace

void quantize_hvx(const QuantizeArgs& args, int32_t begin, int32_t end) noexcept {
  for (int32_t row = begin; row < end; ++row) {
    const int32_t done = quantize_groups(args, row);
    if (done < args.out.cols) quantize_row(args, row, done);
  }
}

void quantize_i16_hvx(const QuantizeI16Args& args, int32_t begin, int32_t end) noexcept {
  const QuantizedRows& out = args.out;
  const int32_t groups = quantized_groups(out.cols, out.group_size);
  const int32_t exponent = fixed::kFraction + 23 + fixed::scalar(args.scale).exponent;  // of a power of two
  auto* exponents = reinterpret_cast<int32_t*>(out.scales);
  for (int32_t row = begin; row < end; ++row) {
    const int16_t* x = args.x + int64_t{row} * out.cols;
    RowWriter writer(out, row);
    for (int32_t column = 0; column < writer.padded_cols(); column += kColumns) {
      const auto halves = [&](int32_t c) { return load_values<2>(reinterpret_cast<const uint8_t*>(x + c), out.cols - c); };
      writer.write(column, halves(column), halves(column + 64));
    }
    for (int32_t g = 0; g < groups; ++g) exponents[int64_t{row} * groups + g] = exponent;
  }
}

}  // namespace hvl

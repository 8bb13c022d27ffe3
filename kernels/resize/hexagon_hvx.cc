// Resampling in HVX, equal to reference.cc to the bit. A weight is three signed digits of 8 bits, so that vrmpy takes four pixels of 32 lanes at once.
//
// vertical: lanes are bytes of a line; four lines are interleaved into words. 4 taps of 128 bytes are 12 vrmpy, two a packet, which bound it.
// horizontal: lanes are lines, up to 128 of them. Source pixels are transposed, 32 at a time, into words of four neighbours of one channel, and
// results are transposed back. Of 128 x 96 bytes that is 512 vlut32 and 272 vshuff, one a packet; of what comes out 448 vshuff for 128 x 128.
#include "kernels/common/hexagon_vector.h"
#include "kernels/resize/resize.h"

namespace hvl {
namespace {

using hexagon::load;
using hexagon::load_bytes;
using hexagon::Pair;
using hexagon::store_bytes;
using hexagon::Vector;

constexpr int32_t kPrecision = 22;
constexpr int kDigits = 3;
constexpr int32_t kTaps = 4;  // of a group: what vrmpy adds up

// Digits of a group's weights, four to a word.
struct Digits {
  int32_t words[kDigits];
};

// weight: of each tap of the group, by its number.
template <class Weight>
HVL_HVX Digits digits_of(const Weight& weight) {
  Digits digits = {};
  for (int t = 0; t < kTaps; ++t) {
    const uint32_t bytes = (uint32_t(weight(t)) + 0x808080) ^ 0x808080;  // signed digits, each in a byte of its own
    for (int d = 0; d < kDigits; ++d) digits.words[d] |= int32_t((bytes >> (8 * d) & 0xff) << (8 * t));
  }
  return digits;
}

// Sums of 32 lanes each, by digit.
template <int kVectors>
struct Sums {
  Vector of[kVectors][kDigits];

  HVL_HVX Sums() {
    for (auto& digits : of) {
      for (Vector& sum : digits) sum = Q6_V_vzero();
    }
  }
  HVL_HVX void add(int v, Vector pixels, const Digits& digits) {
    for (int d = 0; d < kDigits; ++d) of[v][d] = Q6_Vw_vrmpyacc_VwVubRb(of[v][d], pixels, digits.words[d]);
  }
  HVL_HVX Vector total(int v) const { return Q6_Vw_vaslacc_VwVwR(Q6_Vw_vaslacc_VwVwR(of[v][0], of[v][1], 8), of[v][2], 16); }
};

// 128 sums -> bytes.
HVL_HVX Vector rounded(const Vector (&sums)[4]) {
  Vector v[4];
  for (int q = 0; q < 4; ++q) v[q] = Q6_Vw_vasr_VwR(Q6_Vw_vadd_VwVw(sums[q], Q6_V_vsplat_R(1 << (kPrecision - 1))), kPrecision);
  return Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpack_VwVw_sat(v[3], v[2]), Q6_Vh_vpack_VwVw_sat(v[1], v[0]));
}

// ---- vertical

constexpr int32_t kMostGroups = 32;  // of which the digits are kept

// Adds `groups` groups of lines to sums. from: the first of them; lines: that may be read from there on.
template <bool kWhole>
HVL_HVX void add_lines(const uint8_t* from, int32_t stride, int32_t lines, int32_t bytes, const Digits* digits, int32_t groups, Vector (&sums)[4]) {
  Sums<4> products;
  for (int32_t g = 0; g < groups; ++g) {
    Vector line[kTaps];
    for (int t = 0; t < kTaps; ++t) {
      line[t] = kWhole ? load(from) : load_bytes(from, bytes);
      if (--lines > 0) from += stride;  // behind the last line there are weights of 0 only
    }
    const Pair upper = Q6_W_vshuff_VVR(line[1], line[0], -1), lower = Q6_W_vshuff_VVR(line[3], line[2], -1);
    const Pair first = Q6_W_vshuff_VVR(Q6_V_lo_W(lower), Q6_V_lo_W(upper), -2), second = Q6_W_vshuff_VVR(Q6_V_hi_W(lower), Q6_V_hi_W(upper), -2);
    products.add(0, Q6_V_lo_W(first), digits[g]);
    products.add(1, Q6_V_hi_W(first), digits[g]);
    products.add(2, Q6_V_lo_W(second), digits[g]);
    products.add(3, Q6_V_hi_W(second), digits[g]);
  }
  for (int q = 0; q < 4; ++q) sums[q] = Q6_Vw_vadd_VwVw(sums[q], products.total(q));
}

// One line of the output from `taps` lines. A function of its own so that its loop gets all registers.
template <bool kWhole>
__attribute__((noinline)) void line_of(const uint8_t* from, int32_t stride, const int32_t* weights, int32_t taps, int32_t bytes, uint8_t* out) {
  Digits digits[kMostGroups];
  for (int32_t at = 0; at < bytes; at += int32_t(sizeof(Vector))) {
    const int32_t here = bytes - at < int32_t(sizeof(Vector)) ? bytes - at : int32_t(sizeof(Vector));
    Vector sums[4] = {Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero()};
    for (int32_t t = 0; t < taps; t += kMostGroups * kTaps) {
      const int32_t left = taps - t, groups = left < kMostGroups * kTaps ? (left + kTaps - 1) / kTaps : kMostGroups;
      if (at == 0 || taps > kMostGroups * kTaps) {
        for (int32_t g = 0; g < groups; ++g) {
          digits[g] = digits_of([&](int32_t i) { return g * kTaps + i < left ? weights[t + g * kTaps + i] : 0; });
        }
      }
      add_lines<kWhole>(from + int64_t(t) * stride + at, stride, left, here, digits, groups, sums);
    }
    store_bytes(out + at, here, rounded(sums));
  }
}

// ---- horizontal

constexpr int32_t kLines = 128, kBlockPixels = 32, kBlockGroups = kBlockPixels / kTaps, kBatch = 16;

// Where vlut32 finds, in 32 pixels, the four neighbours of each channel: word 3 g + c is channel c of pixels 4 g .. 4 g + 3. Its entries are the even
// bytes, then the odd ones.
struct alignas(128) Deal {
  uint8_t index[128];
};
constexpr Deal make_deal() {
  Deal deal = {};
  for (int i = 0; i < 128; ++i) {
    const int byte = (4 * (i / 12) + i % 4) * 3 + i % 12 / 4;
    deal.index[i] = uint8_t(i < 3 * kBlockPixels ? byte % 2 * 64 + byte / 2 : 255);
  }
  return deal;
}
constexpr Deal kDeal = make_deal();

// Exchanges blocks of kBytes bytes between vectors that are kBytes / kUnit apart, among kCount of them: one of the steps of a transposition.
template <int kCount, int kDistance, int kBytes>
HVL_HVX void exchange(Vector (&v)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i & kDistance) continue;
    const Pair parts = Q6_W_vshuff_VVR(v[i + kDistance], v[i], kBytes);
    v[i] = Q6_V_lo_W(parts);
    v[i + kDistance] = Q6_V_hi_W(parts);
  }
}

// 32 source pixels of up to 128 lines: words of four neighbours, by group, channel, and 32 lines each.
struct Block {
  int32_t index = -1;
  alignas(128) Vector words[kBlockGroups][3][kLines / 32];
};

// Lines q * 32 and the 31 behind it; of lines that are not there, the last one.
__attribute__((noinline)) void fill(Block& block, int q, const uint8_t* from, int32_t stride, int32_t lines, int32_t bytes) {
  Vector between[4][8];  // [word / 8][line % 8]
  const Vector index = load<true>(kDeal.index);
  for (int i = 0; i < 8; ++i) {
    Vector v[4];
    for (int j = 0; j < 4; ++j) {
      const int32_t line = i + 8 * j;
      const Vector pixels = load_bytes(from + int64_t(line < lines ? line : lines - 1) * stride, bytes);
      v[j] = Q6_Vb_vlut32_VbVbI(index, pixels, 0);
      v[j] = Q6_Vb_vlut32or_VbVbVbI(v[j], index, pixels, 1);
      v[j] = Q6_Vb_vlut32or_VbVbVbI(v[j], index, pixels, 2);
      v[j] = Q6_Vb_vlut32or_VbVbVbI(v[j], index, pixels, 3);
    }
    exchange<4, 2, 64>(v);
    exchange<4, 1, 32>(v);
    for (int j = 0; j < 4; ++j) between[j][i] = v[j];
  }
  for (int j = 0; j < 3; ++j) {  // words 24 .. 31 are nothing
    Vector v[8];
    for (int i = 0; i < 8; ++i) v[i] = between[j][i];
    exchange<8, 4, 16>(v);
    exchange<8, 2, 8>(v);
    exchange<8, 1, 4>(v);
    for (int i = 0; i < 8; ++i) block.words[(8 * j + i) / 3][(8 * j + i) % 3][q] = v[i];
  }
}

// Bytes of 128 columns, each of 128 lines -> lines. columns is overwritten.
__attribute__((noinline)) void put_columns(Vector (&columns)[128], int32_t lines, int32_t bytes, uint8_t* out, int64_t stride) {
  for (int i = 0; i < 16; ++i) {
    Vector v[8];
    for (int j = 0; j < 8; ++j) v[j] = columns[i + 16 * j];
    exchange<8, 4, 64>(v);
    exchange<8, 2, 32>(v);
    exchange<8, 1, 16>(v);
    for (int j = 0; j < 8; ++j) columns[i + 16 * j] = v[j];
  }
  for (int32_t first = 0; first < lines; first += 16) {
    Vector v[16];
    for (int i = 0; i < 16; ++i) v[i] = columns[first + i];
    exchange<16, 8, 8>(v);
    exchange<16, 4, 4>(v);
    exchange<16, 2, 2>(v);
    exchange<16, 1, 1>(v);
    for (int i = 0; i < 16; ++i) columns[first + i] = v[i];
  }
  for (int32_t line = 0; line < lines; ++line) store_bytes(out + line * stride, bytes, columns[line]);
}

// Adds groups [begin, end) of a block, with weights of which the first is that of pixel `first` in the block.
template <int kVectors>
__attribute__((noinline)) void add_pixels(const Block& block, int32_t begin, int32_t end, const int32_t* weights, int32_t first, int32_t taps,
                                          Vector (&sums)[3][4]) {
  Digits digits[kBlockGroups];
  for (int32_t g = begin; g < end; ++g) {
    digits[g] = digits_of([&](int32_t i) {
      const int32_t tap = g * kTaps + i - first;
      return 0 <= tap && tap < taps ? weights[tap] : 0;
    });
  }
  for (int c = 0; c < 3; ++c) {
    Sums<kVectors> products;
    for (int32_t g = begin; g < end; ++g) {
      for (int q = 0; q < kVectors; ++q) products.add(q, block.words[g][c][q], digits[g]);
    }
    for (int q = 0; q < kVectors; ++q) sums[c][q] = Q6_Vw_vadd_VwVw(sums[c][q], products.total(q));
  }
}

// Up to 128 lines; kVectors: of 32 lines, that they take.
template <int kVectors>
void lines_of(const ResizeArgs& a, const uint8_t* from, int32_t lines, uint8_t* out) {
  const int32_t stride = a.in_width * 3;
  Block blocks[2];
  Vector columns[128];
  int32_t filled = 0, stored = 0;
  for (int32_t x = 0; x < a.out_size; x += kBatch) {
    const int32_t batch = a.out_size - x < kBatch ? a.out_size - x : kBatch;
    Vector sums[kBatch][3][4], zero = Q6_V_vzero();
    asm("" : "+v"(zero));  // or the loop becomes memset
    for (int32_t i = 0; i < batch; ++i) {
      for (auto& channel : sums[i]) {
        for (Vector& sum : channel) sum = zero;
      }
    }
    const int32_t last = (a.first[x + batch - 1] + a.taps - 1) / kBlockPixels;
    for (int32_t b = a.first[x] / kBlockPixels; b <= last; ++b) {
      Block& block = blocks[b & 1];
      const int32_t pixel = b * kBlockPixels;
      if (block.index != b) {
        const int32_t pixels = a.in_width - pixel < kBlockPixels ? a.in_width - pixel : kBlockPixels;
        for (int q = 0; q < kVectors; ++q) {
          const int32_t line = 32 * q < lines ? 32 * q : lines - 1;
          fill(block, q, from + int64_t(line) * stride + pixel * 3, stride, lines - line, pixels * 3);
        }
        block.index = b;
      }
      for (int32_t i = 0; i < batch; ++i) {
        const int32_t first = a.first[x + i] - pixel, end = first + a.taps;  // in the block, or before and behind it
        if (end <= 0 || first >= kBlockPixels) continue;
        const int32_t groups_end = end < kBlockPixels ? (end + kTaps - 1) / kTaps : kBlockGroups;
        add_pixels<kVectors>(block, first > 0 ? first / kTaps : 0, groups_end, a.weights + int64_t(x + i) * a.taps, first, a.taps, sums[i]);
      }
    }
    for (int32_t i = 0; i < batch; ++i) {
      for (int c = 0; c < 3; ++c) {
        columns[filled++] = rounded(sums[i][c]);
        if (filled < 128 && (c < 2 || x + i + 1 < a.out_size)) continue;
        put_columns(columns, lines, filled, out + stored, int64_t(a.out_size) * 3);
        stored += filled;
        filled = 0;
      }
    }
  }
}

}  // namespace

void resize_vertical_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int32_t stride = a.in_width * 3, whole = stride / 128 * 128;
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* from = a.in + int64_t(a.first[y]) * stride;
    const int32_t* weights = a.weights + int64_t(y) * a.taps;
    uint8_t* out = a.out + int64_t(y) * stride;
    if (whole > 0) line_of<true>(from, stride, weights, a.taps, whole, out);
    if (whole < stride) line_of<false>(from + whole, stride, weights, a.taps, stride - whole, out + whole);
  }
}

void resize_horizontal_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; y += kLines) {
    const int32_t lines = end - y < kLines ? end - y : kLines;
    const uint8_t* from = a.in + int64_t(y) * a.in_width * 3;
    uint8_t* out = a.out + int64_t(y) * a.out_size * 3;
    lines <= 32 ? lines_of<1>(a, from, lines, out) : lines_of<4>(a, from, lines, out);
  }
}

}  // namespace hvl

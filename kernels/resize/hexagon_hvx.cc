// Resampling in HVX, equal to reference.cc to the bit. A weight is three signed digits of 8 bits, so that vrmpy takes four pixels of 32 lanes at once:
// four taps of 128 bytes are 12 vrmpy, two a packet.
//
// vertical: lanes are bytes of a line. Loads that are not aligned and what interleaves four lines need the same unit: 8 packets for four taps.
// horizontal: lanes are lines, up to 128 of them. Source pixels are transposed, 32 at a time, which is 128 such loads and 272 vshuff, one a packet;
// what comes out is transposed back, 448 vshuff for 128 x 128 bytes. Between them the products, 6 packets for four taps of a channel, and 11 that
// join and round the digits' sums.
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
constexpr int32_t kTaps = 4;          // of a group: what vrmpy adds up
constexpr int32_t kVectorGroups = 8;  // of a vector of weights

// Weights of 32 taps by group and digit: a word has that digit of four taps.
struct alignas(128) Digits {
  int32_t words[kVectorGroups][4];  // of which the last is none
};

// Digits of the taps that n weights, 1 to 32, are for, behind `shift` taps that have none: together 32 at most. left: weights up to the end of all.
HVL_HVX Vector digits_of(const int32_t* weights, int32_t n, int32_t shift, int64_t left) {
  const Vector found = left >= hexagon::kLanes ? load(weights) : load_bytes(weights, 4 * n);
  const Vector own = Q6_V_vmux_QVV(Q6_Q_vsetq2_R(4 * n), found, Q6_V_vzero());
  const Vector bias = Q6_V_vsplat_R(0x808080), w = Q6_V_vror_VR(own, -4 * shift);
  const Vector digits = Q6_V_vxor_VV(Q6_Vw_vadd_VwVw(w, bias), bias);  // signed, each in a byte of its own
  // Bits 0 and 1 of a byte's place change places with bits 2 and 3.
  Pair p = Q6_W_vshuff_VVR(digits, digits, 1 | 4);
  p = Q6_W_vshuff_VVR(Q6_V_hi_W(p), Q6_V_lo_W(p), 1 | 2 | 8);
  return Q6_V_lo_W(Q6_W_vshuff_VVR(Q6_V_hi_W(p), Q6_V_lo_W(p), 2));
}

// Sums of 32 lanes each, by digit.
template <int kVectors>
struct Sums {
  Vector of[kVectors][kDigits];

  HVL_HVX Sums(const Vector* pixels, const int32_t (&digits)[4]) {
    for (int v = 0; v < kVectors; ++v) {
      for (int d = 0; d < kDigits; ++d) of[v][d] = Q6_Vw_vrmpy_VubRb(pixels[v], digits[d]);
    }
  }
  HVL_HVX void add(const Vector* pixels, const int32_t (&digits)[4]) {
    for (int v = 0; v < kVectors; ++v) {
      for (int d = 0; d < kDigits; ++d) of[v][d] = Q6_Vw_vrmpyacc_VwVubRb(of[v][d], pixels[v], digits[d]);
    }
  }
  HVL_HVX Vector total(int v) const { return Q6_Vw_vaslacc_VwVwR(Q6_Vw_vaslacc_VwVwR(of[v][0], of[v][1], 8), of[v][2], 16); }
  // total >> 8: the first digit's sum is the only one with bits below.
  HVL_HVX Vector shifted(int v) const { return Q6_Vw_vasracc_VwVwR(Q6_Vw_vaslacc_VwVwR(of[v][1], of[v][2], 8), of[v][0], 8); }
};

// Sums >> 8 -> bytes; that of lane i of vector v lies at 4 * i + v.
HVL_HVX Vector rounded(const Vector (&v)[4]) {
  const Vector even = Q6_Vh_vasr_VwVwR_rnd_sat(v[2], v[0], kPrecision - 8), odd = Q6_Vh_vasr_VwVwR_rnd_sat(v[3], v[1], kPrecision - 8);
  return Q6_Vub_vsat_VhVh(odd, even);
}

// ---- vertical

constexpr int32_t kMostTaps = 128;  // of which the digits are kept

// Four lines -> words of four lines' bytes; column 4 * i + v is lane i of vector v.
HVL_HVX void interleave(const Vector (&line)[kTaps], Vector (&words)[4]) {
  const Pair upper = Q6_Wb_vshuffoe_VbVb(line[1], line[0]), lower = Q6_Wb_vshuffoe_VbVb(line[3], line[2]);
  const Pair even = Q6_Wh_vshuffoe_VhVh(Q6_V_lo_W(lower), Q6_V_lo_W(upper)), odd = Q6_Wh_vshuffoe_VhVh(Q6_V_hi_W(lower), Q6_V_hi_W(upper));
  words[0] = Q6_V_lo_W(even);
  words[1] = Q6_V_lo_W(odd);
  words[2] = Q6_V_hi_W(even);
  words[3] = Q6_V_hi_W(odd);
}

// Four lines, of which `lines` are there. Instead of the others, whose weights are 0, the last of them.
template <bool kWhole>
HVL_HVX void load_lines(const uint8_t* from, int32_t stride, int32_t lines, int32_t bytes, Vector (&words)[4]) {
  Vector line[kTaps];
  for (int t = 0; t < kTaps; ++t) {
    line[t] = kWhole ? load(from) : load_bytes(from, bytes);
    if (t + 1 < lines) from += stride;
  }
  interleave(line, words);
}

// Sums of up to kMostTaps lines, the last one to four first. Four are loaded while others are multiplied.
template <bool kWhole>
HVL_HVX Sums<4> sums_of(const uint8_t* from, int32_t stride, int32_t lines, int32_t bytes, const Digits* digits) {
  const int32_t(*group)[4] = digits->words;
  const int32_t whole = (lines - 1) / kTaps;
  Vector words[4];
  load_lines<kWhole>(from + whole * kTaps * stride, stride, lines - whole * kTaps, bytes, words);
  Sums<4> sums(words, group[whole]);
  if (whole == 0) return sums;
  load_lines<kWhole>(from, stride, kTaps, bytes, words);
  for (int32_t left = whole - 1; left > 0; --left) {
    from += kTaps * stride;
    Vector next[4];
    load_lines<kWhole>(from, stride, kTaps, bytes, next);
    sums.add(words, *group++);
    for (int v = 0; v < 4; ++v) words[v] = next[v];
  }
  sums.add(words, *group);
  return sums;
}

void make_digits(const int32_t* weights, int32_t n, int64_t left, Digits* digits) {
  for (; n > 0; n -= 32) {
    *reinterpret_cast<Vector*>(digits->words) = digits_of(weights, n < 32 ? n : 32, 0, left);
    weights += 32;
    left -= 32;
    ++digits;
  }
}

// One line of the output from `lines` lines. Functions of their own so that their loops get all registers.
template <bool kWhole>
__attribute__((noinline)) void line_of(const uint8_t* from, int32_t stride, int32_t lines, const Digits* digits, int32_t bytes, uint8_t* out) {
  for (int32_t at = 0; at < bytes; at += int32_t(sizeof(Vector))) {
    const int32_t here = bytes - at < int32_t(sizeof(Vector)) ? bytes - at : int32_t(sizeof(Vector));
    const Sums<4> sums = sums_of<kWhole>(from + at, stride, lines, here, digits);
    const Vector result = rounded({sums.shifted(0), sums.shifted(1), sums.shifted(2), sums.shifted(3)});
    kWhole ? hexagon::store(out + at, result) : store_bytes(out + at, here, result);
  }
}

// The same from any number. left: weights from these to the last of all.
__attribute__((noinline)) void line_of_many(const uint8_t* from, int32_t stride, const int32_t* weights, int32_t lines, int64_t left, int32_t bytes,
                                            uint8_t* out) {
  Digits digits[kMostTaps / 32];
  for (int32_t at = 0; at < bytes; at += int32_t(sizeof(Vector))) {
    const int32_t here = bytes - at < int32_t(sizeof(Vector)) ? bytes - at : int32_t(sizeof(Vector));
    Vector totals[4] = {Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero()};
    for (int32_t t = 0; t < lines; t += kMostTaps) {
      const int32_t some = lines - t < kMostTaps ? lines - t : kMostTaps;
      make_digits(weights + t, some, left - t, digits);
      const Sums<4> sums = sums_of<false>(from + int64_t(t) * stride + at, stride, some, here, digits);
      for (int v = 0; v < 4; ++v) totals[v] = Q6_Vw_vadd_VwVw(totals[v], sums.total(v));
    }
    for (Vector& total : totals) total = Q6_Vw_vasr_VwR(total, 8);
    store_bytes(out + at, here, rounded(totals));
  }
}

// ---- horizontal

constexpr int32_t kLines = 128, kBlockPixels = 32, kBatch = 16;
constexpr int32_t kNarrow = kBlockPixels - kTaps + 1;  // taps that lie in 8 groups wherever they begin
constexpr uint32_t kRingGroups = 2 * kVectorGroups;

// Source pixels of up to 128 lines, two blocks of 32: a word has four neighbours of a channel. Lane i of vector v is line kVectors * i + v.
// Where vmux leaves the neighbours is not their order: R 0 3 2 1, G 1 0 3 2, B 2 1 0 3. Digits are stored as often, in these orders.
struct Group {
  Vector words[3][4], unused[4];  // a power of two
};
struct Ring {
  int32_t block[2] = {-1, -1};
  Group groups[kRingGroups];
};
struct ChannelDigits {
  Digits of[3];

  HVL_HVX void make(const int32_t* weights, int32_t n, int32_t shift, int64_t left) {
    const Vector digits = digits_of(weights, n, shift, left);
    constexpr int32_t kExchanged[3] = {0x02000200, 0x01010101, 0x00020002};  // by each byte of a word: with which it changes places
    for (int c = 0; c < 3; ++c) *reinterpret_cast<Vector*>(of[c].words) = Q6_V_vdelta_VV(digits, Q6_V_vsplat_R(kExchanged[c]));
  }
};

// Exchanges blocks of kBytes bytes between vectors that are kDistance apart, among kCount of them: one of the steps of a transposition.
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

// Vector v of a block's groups. from: lane 0's line; step: bytes from a lane's line to the next one's; last_lane: the last that has a line, which
// stands for those that have none. kWhole: 128 bytes of each may be read.
template <bool kWhole>
__attribute__((noinline)) void fill(Group* groups, int v, const uint8_t* from, int32_t step, int32_t last_lane, int32_t bytes) {
  Vector between[3][8];  // [word / 8][line % 8]; words 24 .. 31 are nothing
  for (int i = 0; i < 8; ++i) {
    Vector line[4];
    for (int j = 0; j < 4; ++j) {
      const int32_t lane = i + 8 * j;
      const uint8_t* at = from + (lane < last_lane ? lane : last_lane) * step;
      line[j] = kWhole ? load(at) : load_bytes(at, bytes);
    }
    exchange<4, 2, 64>(line);
    exchange<4, 1, 32>(line);
    for (int j = 0; j < 3; ++j) between[j][i] = line[j];
  }
  for (auto& words : between) {
    exchange<8, 4, 16>(words);
    exchange<8, 2, 8>(words);
    exchange<8, 1, 4>(words);
  }
  // Three words: RGBR GBRG BRGB. Of each byte of a word, in which of them that channel is: R 0 2 1 0, G 1 0 2 1, B 2 1 0 2.
  const HVX_VectorPred byte1 = Q6_Q_vand_VR(Q6_V_vsplat_R(0x0000ff00), -1), bytes03 = Q6_Q_vand_VR(Q6_V_vsplat_R(int32_t(0xff0000ff)), -1);
#pragma unroll
  for (int g = 0; g < kVectorGroups; ++g) {
    const auto word = [&](int i) { return between[(3 * g + i) / 8][(3 * g + i) % 8]; };
    const Vector x = word(0), y = word(1), z = word(2);
    groups[g].words[0][v] = Q6_V_vmux_QVV(bytes03, x, Q6_V_vmux_QVV(byte1, z, y));
    groups[g].words[1][v] = Q6_V_vmux_QVV(bytes03, y, Q6_V_vmux_QVV(byte1, x, z));
    groups[g].words[2][v] = Q6_V_vmux_QVV(bytes03, z, Q6_V_vmux_QVV(byte1, y, x));
  }
}

// Bytes of 128 columns, each of 128 lines -> lines. columns is overwritten.
__attribute__((noinline)) void put_columns(Vector* columns, int32_t lines, int32_t bytes, uint8_t* out, int32_t stride) {
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
  if (bytes == int32_t(sizeof(Vector))) {
    for (int32_t line = 0; line < lines; ++line) hexagon::store(out + int64_t(line) * stride, columns[line]);
  } else {
    for (int32_t line = 0; line < lines; ++line) store_bytes(out + int64_t(line) * stride, bytes, columns[line]);
  }
}

template <int kVectors>
struct Resampler {
  Resampler(const ResizeArgs& args, const uint8_t* first_line, int32_t line_count, uint8_t* out_line)
      : a(args), from(first_line), lines(line_count), out(out_line) {}

  const ResizeArgs& a;
  const uint8_t* const from;
  const int32_t lines;
  uint8_t* const out;
  Ring ring;
  Vector columns[130];  // of the output, until there are 128: a pixel has three
  int32_t stored = 0;

  __attribute__((noinline)) void make_block(int32_t block) {
    if (ring.block[block & 1] == block) return;
    ring.block[block & 1] = block;
    const int32_t pixel = block * kBlockPixels, stride = a.in_width * 3;
    const int32_t pixels = a.in_width - pixel < kBlockPixels ? a.in_width - pixel : kBlockPixels;
    const uint8_t* first = from + pixel * 3;
    const bool whole = a.in + int64_t(a.in_height) * stride - (first + int64_t(lines - 1) * stride) >= int32_t(sizeof(Vector));
    for (int v = 0; v < kVectors; ++v) {
      const int32_t line = v < lines ? v : lines - 1, last_lane = (lines - 1 - line) / kVectors;
      auto* const fill_vector = whole ? &fill<true> : &fill<false>;
      fill_vector(ring.groups + (block & 1) * kVectorGroups, v, first + int64_t(line) * stride, kVectors * stride, last_lane, pixels * 3);
    }
  }

  // Of `count` groups, at least 1, from `group` on.
  HVL_HVX Sums<kVectors> products(int c, uint32_t group, int32_t count, const Digits& digits) const {
    const auto* ring_bytes = reinterpret_cast<const uint8_t*>(ring.groups);
    uint32_t at = group % kRingGroups * sizeof(Group);
    const auto words = [&] { return reinterpret_cast<const Group*>(ring_bytes + at)->words[c]; };
    Sums<kVectors> sums(words(), digits.words[0]);
    const int32_t(*word)[4] = digits.words;
#pragma clang loop unroll(disable)
    for (int32_t left = count - 1; left > 0; --left) {
      at = (at + sizeof(Group)) % sizeof(ring.groups);
      sums.add(words(), *++word);
    }
    return sums;
  }

  HVL_HVX Vector column(const Vector (&sums)[4]) const {
    const Vector v = rounded(sums);
    if constexpr (kVectors == 1) return Q6_Vb_vdeal_Vb(Q6_Vb_vdeal_Vb(v));
    if constexpr (kVectors == 2) return Q6_Vh_vdeal_Vh(v);
    return v;
  }

  // Stores the first `filled` columns, up to 128; how many are left.
  __attribute__((noinline)) int32_t put(int32_t filled) {
    const int32_t bytes = filled < 128 ? filled : 128;
    put_columns(columns, lines, bytes, out + stored, a.out_size * 3);
    stored += bytes;
    for (int i = 0; i < 2; ++i) columns[i] = columns[128 + i];
    return filled - bytes;
  }
  HVL_HVX void put_last(int32_t filled) {
    while (filled > 0) filled = put(filled);
  }

  // Outputs whose taps lie in two blocks.
  __attribute__((noinline)) void narrow() {
    ChannelDigits digits;
    const int32_t* weights = a.weights;
    int32_t filled = 0, made = -1;
    int64_t left = int64_t(a.out_size) * a.taps;
    for (int32_t x = 0; x < a.out_size; ++x) {
      const auto first = uint32_t(a.first[x]), last = first + uint32_t(a.taps) - 1, group = first / kTaps;
      const auto first_block = int32_t(first / kBlockPixels), last_block = int32_t(last / kBlockPixels);
      for (int32_t block = first_block > made ? first_block : made + 1; block <= last_block; ++block) make_block(made = block);
      digits.make(weights, a.taps, int32_t(first % kTaps), left);
      weights += a.taps;
      left -= a.taps;
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const Sums<kVectors> sums = products(c, group, int32_t(last / kTaps - group + 1), digits.of[c]);
        Vector v[4] = {Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero()};
        for (int q = 0; q < kVectors; ++q) v[q] = sums.shifted(q);
        columns[filled + c] = column(v);
      }
      filled += 3;
      if (filled >= 128) filled = put(filled);
    }
    put_last(filled);
  }

  // Others, some at once: each block is made for all of them, and their sums wait in memory.
  __attribute__((noinline)) void wide() {
    Vector sums[kBatch][3][kVectors];
    ChannelDigits digits;
    int32_t filled = 0;
    for (int32_t x = 0; x < a.out_size; x += kBatch) {
      const int32_t batch = a.out_size - x < kBatch ? a.out_size - x : kBatch;
      const int32_t last = (a.first[x + batch - 1] + a.taps - 1) / kBlockPixels;
      for (int32_t block = a.first[x] / kBlockPixels; block <= last; ++block) {
        make_block(block);
        for (int32_t i = 0; i < batch; ++i) {
          const int32_t first = a.first[x + i] - block * kBlockPixels;  // in the block, or before and behind it
          if (first + a.taps <= 0 || first >= kBlockPixels) continue;
          const int32_t begin = first < 0 ? 0 : first, end = first + a.taps < kBlockPixels ? first + a.taps : kBlockPixels;
          const int64_t weight = int64_t(x + i) * a.taps + (begin - first);
          const int32_t group = begin / kTaps, count = (end - 1) / kTaps - group + 1;
          digits.make(a.weights + weight, end - begin, begin % kTaps, int64_t(a.out_size) * a.taps - weight);
          for (int c = 0; c < 3; ++c) {
            const Sums<kVectors> found = products(c, uint32_t(block * kVectorGroups + group), count, digits.of[c]);
            for (int q = 0; q < kVectors; ++q) {
              const Vector total = found.total(q);
              sums[i][c][q] = first >= 0 ? total : Q6_Vw_vadd_VwVw(sums[i][c][q], total);
            }
          }
        }
      }
      for (int32_t i = 0; i < batch; ++i) {
        for (int c = 0; c < 3; ++c) {
          Vector v[4] = {Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero()};
          for (int q = 0; q < kVectors; ++q) v[q] = Q6_Vw_vasr_VwR(sums[i][c][q], 8);
          columns[filled + c] = column(v);
        }
        filled += 3;
        if (filled >= 128) filled = put(filled);
      }
    }
    put_last(filled);
  }
};

template <int kVectors>
__attribute__((noinline)) void lines_of(const ResizeArgs& a, const uint8_t* from, int32_t lines, uint8_t* out) {
  Resampler<kVectors> resampler(a, from, lines, out);
  a.taps <= kNarrow ? resampler.narrow() : resampler.wide();
}

}  // namespace

void resize_vertical_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  const int32_t stride = a.in_width * 3, whole = stride / 128 * 128;
  Digits digits[kMostTaps / 32];
  for (int32_t y = begin; y < end; ++y) {
    const uint8_t* from = a.in + int64_t(a.first[y]) * stride;
    const int32_t* weights = a.weights + int64_t(y) * a.taps;
    const int64_t left = int64_t(a.out_size - y) * a.taps;
    uint8_t* out = a.out + int64_t(y) * stride;
    if (a.taps > kMostTaps) {
      line_of_many(from, stride, weights, a.taps, left, stride, out);
      continue;
    }
    make_digits(weights, a.taps, left, digits);
    if (whole > 0) line_of<true>(from, stride, a.taps, digits, whole, out);
    if (whole < stride) line_of<false>(from + whole, stride, a.taps, digits, stride - whole, out + whole);
  }
}

void resize_horizontal_hvx(const ResizeArgs& a, int32_t begin, int32_t end) noexcept {
  for (int32_t y = begin; y < end; y += kLines) {
    const int32_t lines = end - y < kLines ? end - y : kLines;
    const uint8_t* from = a.in + int64_t(y) * a.in_width * 3;
    uint8_t* out = a.out + int64_t(y) * a.out_size * 3;
    lines <= 32 ? lines_of<1>(a, from, lines, out) : lines <= 64 ? lines_of<2>(a, from, lines, out) : lines_of<4>(a, from, lines, out);
  }
}

}  // namespace hvl

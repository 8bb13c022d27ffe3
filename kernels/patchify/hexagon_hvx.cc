// Pixels of a tile to patch rows in HVX: a patch's pixels are dealt out into a buffer of bytes a channel, each of which then is looked up
// in the channel's table.
//
// The permuting unit allows 0.25 packets a value: of 48, 6 `vlut32` for dealing (12 where a patch is wider than 21 pixels), and of 128,
// 16 `vlut16`. It takes 1.25 (patches of 16; of 14: 1.58): what bounds it is what stands around them, some 40 packets for each line of a
// patch and channels' tables and ends for each patch. Pixels outside of the image are written one by one: they are few.
#include "kernels/common/hexagon_vector.h"
#include "kernels/patchify/patchify.h"

namespace hvl {
namespace {

using hexagon::load;
using hexagon::Pair;
using hexagon::Vector;

constexpr int32_t kEntries = 257;   // of the table, a channel; the last is the pad value
constexpr int32_t kSegment = 42;    // pixels of one vector
constexpr int32_t kCapacity = 512;  // bytes of a channel that are looked up at once

// Where vlut32 finds byte 3 i + c of a vector: its entries are the even bytes, then the odd ones. 255: nowhere, among four tables.
struct alignas(128) Deal {
  uint8_t index[3][128];
};
constexpr Deal make_deal() {
  Deal deal = {};
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 128; ++i) {
      const int byte = 3 * i + c;
      deal.index[c][i] = uint8_t(i < kSegment ? byte % 2 * 64 + byte / 2 : 255);
    }
  }
  return deal;
}
constexpr Deal kDeal = make_deal();

struct Channels {
  alignas(128) uint8_t bytes[3][kCapacity + 128];  // a whole vector is stored for each stretch: what is too much, the next one covers
};

// The three channels of a vector of pixels. kWide: of more than 64 bytes.
template <bool kWide>
HVL_HVX void deal(Vector pixels, const Vector (&index)[3], int32_t filled, Channels& channels) {
  for (int c = 0; c < 3; ++c) {
    Vector v = Q6_Vb_vlut32or_VbVbVbI(Q6_Vb_vlut32_VbVbI(index[c], pixels, 0), index[c], pixels, 2);
    if constexpr (kWide) v = Q6_Vb_vlut32or_VbVbVbI(Q6_Vb_vlut32or_VbVbVbI(v, index[c], pixels, 1), index[c], pixels, 3);
    hexagon::store(channels.bytes[c] + filled, v);
  }
}

// out[i] = table[bytes[i]], i < n.
__attribute__((noinline)) void look_up(const uint8_t* bytes, const int16_t* table, int16_t* out, int32_t n) {
  Vector entries[4];  // 64 each: vlut16 takes the first 32 from even halves of words, the others from odd ones
  for (int q = 0; q < 4; ++q) entries[q] = Q6_Vh_vshuff_Vh(load(table + 64 * q));
  for (int32_t left = n; left > 0; left -= 128) {
    const Vector index = load<true>(bytes);
    Pair found = Q6_Wh_vlut16_VbVhI(index, entries[0], 0);
#pragma unroll
    for (int m = 1; m < 16; ++m) found = Q6_Wh_vlut16or_WhVbVhR(found, index, entries[m / 4], m);
    const Pair ordered = Q6_W_vshuff_VVR(Q6_V_hi_W(found), Q6_V_lo_W(found), -2);  // of even and of odd bytes
    if (left >= 128) {
      hexagon::store(out, Q6_V_lo_W(ordered));
      hexagon::store(out + 64, Q6_V_hi_W(ordered));
    } else {
      hexagon::store_bytes(out, 2 * (left < 64 ? left : 64), Q6_V_lo_W(ordered));
      if (left > 64) hexagon::store_bytes(out + 64, 2 * (left - 64), Q6_V_hi_W(ordered));
    }
    bytes += 128;
    out += 128;
  }
}

// One patch whose first pixel is (y, x), in the image. Pixels outside of the image get anything, or nothing.
template <bool kWide>
__attribute__((noinline)) void patch_of(const PatchifyArgs& a, int64_t y, int64_t x, Channels& channels, int16_t* out) {
  const int32_t patch = a.patch, stride = 3 * a.width;
  const int32_t lines = a.height - y < patch ? int32_t(a.height - y) : patch;
  const int32_t inside = a.width - x < patch ? int32_t(a.width - x) : patch;
  const Vector index[3] = {load<true>(kDeal.index[0]), load<true>(kDeal.index[1]), load<true>(kDeal.index[2])};
  int32_t filled = 0, done = 0;
  const auto flush = [&] {
    for (int c = 0; c < 3; ++c) look_up(channels.bytes[c], a.table + c * kEntries, out + c * patch * patch + done, filled);
    done += filled;
    filled = 0;
  };
  const uint8_t* line = a.image + (y * a.width + x) * 3;
  for (int32_t py = 0; py < lines; ++py) {
    for (int32_t px = 0; px < patch; px += kSegment) {
      const int32_t pixels = patch - px < kSegment ? patch - px : kSegment;
      if (filled + pixels > kCapacity) flush();
      const int32_t dealt = inside - px < pixels ? inside - px : pixels;
      if (dealt > 0) deal<kWide>(hexagon::load_bytes(line + 3 * px, 3 * dealt), index, filled, channels);
      filled += pixels;
    }
    line += stride;
  }
  flush();
}

// Writes the pad value where the patch is outside of the image.
void pad(const PatchifyArgs& a, int64_t y, int64_t x, int16_t* out) {
  for (int32_t c = 0; c < 3; ++c) {
    const int16_t value = a.table[c * kEntries + kEntries - 1];
    for (int32_t py = 0; py < a.patch; ++py) {
      int64_t first = y + py < a.height ? a.width - x : 0;
      if (first < 0) first = 0;
      for (int64_t px = first; px < a.patch; ++px) out[(c * a.patch + py) * a.patch + px] = value;
    }
  }
}

}  // namespace

void patchify_hvx(const PatchifyArgs& a, int32_t begin, int32_t end) noexcept {
  const bool wide = 3 * (a.patch < kSegment ? a.patch : kSegment) > 64;
  Channels channels = {};
  int16_t* out = a.out + int64_t(begin) * a.grid_w * 3 * a.patch * a.patch;
  for (int32_t gy = begin; gy < end; ++gy) {
    for (int32_t gx = 0; gx < a.grid_w; ++gx) {
      const int64_t y = int64_t(a.top) + int64_t(gy) * a.patch, x = int64_t(a.left) + int64_t(gx) * a.patch;
      if (y < a.height && x < a.width) wide ? patch_of<true>(a, y, x, channels, out) : patch_of<false>(a, y, x, channels, out);
      if (y + a.patch > a.height || x + a.patch > a.width) pad(a, y, x, out);
      out += 3 * a.patch * a.patch;
    }
  }
}

}  // namespace hvl

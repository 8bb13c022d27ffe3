// Keys and values in 8 bits with a scale a position and head, in integers (docs/integer_arithmetic.md, section Keys and values). A block's
// scales are words of mantissa and exponent. Caches of 16 bits are not this arithmetic's: such a call does nothing.
#include "kernels/common/fixed.h"
#include "kernels/kv_store/kv_store.h"

namespace hvl {
namespace {

constexpr int32_t kLimit = 127;
constexpr int32_t kQuotientFraction = 23;

// x of a row = integer * scale; integer = round_down(mul31(x << lift, factor), kQuotientFraction).
struct RowScale {
  int32_t lift, factor, word;
};

RowScale row_scale(const int32_t* x, int32_t n) {
  int32_t most = 0;
  for (int32_t i = 0; i < n; ++i) most = fixed::magnitude(x[i]) > most ? fixed::magnitude(x[i]) : most;
  if (most == 0) return {0, 0, fixed::scaled(0, fixed::kNoScale)};
  const int32_t lift = 31 - fixed::width(most);
  const uint64_t top = uint64_t(most) << lift;  // in [2^30, 2^31)
  const auto factor = int32_t((uint64_t{kLimit} << (31 + kQuotientFraction)) / top);
  // top / 127 to 15 bits: the scale is mantissa * 2^16 / 128 * 2^-lift activations.
  const uint64_t scale = (top << 7) / kLimit;
  int32_t mantissa = int32_t((scale + (1 << 15)) >> 16), exponent = 16 - 7 - lift - fixed::kFraction;
  if (mantissa > 32767) {
    mantissa = int32_t((scale + (1 << 16)) >> 17);
    ++exponent;
  }
  return {lift, factor, fixed::scaled(mantissa, exponent)};
}

uint8_t integer(int32_t x, const RowScale& s) {
  const int32_t quotient = fixed::mul31(int32_t(uint32_t(x) << s.lift), s.factor);
  return uint8_t(fixed::clamp(fixed::round_down(quotient, kQuotientFraction), kLimit));
}

// One side of the block of 16 positions from `position` on. Where byte (d, key) of a block lies: K by fours of d, V by fours of keys.
void store_block(const float* rows, const KvStoreArgs& args, int32_t position, bool keys, uint8_t* block) {
  const int32_t padded = kv_padded(args.cache.head_dim), end = args.position + args.rows;
  auto* words = reinterpret_cast<int32_t*>(block);
  for (int32_t key = 0; key < kKvKeyBlock; ++key) {
    const int32_t row = position + key - args.position;
    if (row < 0) continue;  // stays
    const bool there = position + key < end;
    const auto* x = reinterpret_cast<const int32_t*>(rows) + row * args.kv_stride;
    const RowScale s = there ? row_scale(x, args.cache.head_dim) : RowScale{0, 0, fixed::scaled(0, fixed::kNoScale)};
    words[key] = s.word;
    for (int32_t d = 0; d < padded; ++d) {
      const int32_t at = keys ? (d / 4 * kKvKeyBlock + key) * 4 + d % 4 : (key / 4 * padded + d) * 4 + key % 4;
      block[kKvScaleBytes + at] = there && d < args.cache.head_dim ? integer(x[d], s) : 0;
    }
  }
}

}  // namespace

void kv_store_fixed(const KvStoreArgs& args, int32_t begin, int32_t end) noexcept {
  const KvCache& cache = args.cache;
  if (args.rows <= 0 || cache.bits != 8) return;
  const int64_t block_bytes = kv_block_bytes(cache.head_dim, 8), side = kv_side_bytes(1, cache.head_dim, cache.capacity, 8);
  for (int32_t head = begin; head < end; ++head) {
    const int64_t from = int64_t{head} * cache.head_dim;
    for (int32_t p = args.position / kKvKeyBlock * kKvKeyBlock; p < args.position + args.rows; p += kKvKeyBlock) {
      const int64_t to = head * side + p / kKvKeyBlock * block_bytes;
      store_block(args.k + from, args, p, true, cache.k + to);
      store_block(args.v + from, args, p, false, cache.v + to);
    }
  }
}

}  // namespace hvl

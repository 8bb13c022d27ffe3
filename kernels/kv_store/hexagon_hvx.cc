// Keys and values to 8 bits in HVX: the scales of up to 16 rows at once, then 128 dims of them to bytes, which are turned into the layout
// of kv_store.h by zipping vectors.
//
// What bounds it: 139 packets for a row and side of 128 dims where rows fill blocks, a third of it exact scales; a row alone takes 1013,
// most of them to zip vectors that are zeros and to keep what other keys have in them.
#include "kernels/common/hexagon_words.h"
#include "kernels/kv_store/kv_store.h"

namespace hvl {
namespace {

using namespace hexagon;

constexpr int32_t kLimit = 127, kQuotientFraction = 23;
constexpr int32_t kColumn = 128;  // dims that are bytes of a vector
static_assert(kKvKeyBlock == kMostRows);

// Of one side: up to 16 new rows, keys first .. first + rows - 1 of a block. Those before stay; those behind become zeros.
struct Rows {
  const int32_t* x;
  int64_t stride;
  int32_t head_dim, first, rows;
  int32_t lift[kMostRows], factor[kMostRows];
};

// The scales: in the block, and as integers are made with them.
void store_scales(Rows& b, uint8_t* block) {
  Vector most_of[kMostRows];
  for (int32_t r = 0; r < b.rows; ++r) {
    const int32_t* x = b.x + r * b.stride;
    Vector of_row = zero();
    each_vector(b.head_dim, [&](int32_t d, int32_t n)
                                __attribute__((always_inline)) { of_row = Q6_Vw_vmax_VwVw(of_row, magnitude(load_row(x + d, n))); });
    most_of[r] = of_row;
  }
  RowNumbers numbers, tops, near;
  across_rows<Max>(most_of, b.rows, numbers);
  auto vector = [](RowNumbers& n) -> Vector& { return *reinterpret_cast<Vector*>(n.pairs); };
  const Vector bits_free = Q6_Vw_vsub_VwVw(Q6_Vuw_vcl0_Vuw(vector(numbers)), splat(1)), top = Q6_Vw_vasl_VwVw(vector(numbers), bits_free);
  const Vector inverse = inverses(top);
  vector(tops) = top;
  vector(near) = Q6_Vw_vsub_VwVw(inverse, Q6_Vw_vasr_VwR(inverse, 7));  // 127 / 128 of it
  auto* words = reinterpret_cast<int32_t*>(block) + b.first;
  for (int32_t r = 0; r < kKvKeyBlock - b.first; ++r) {
    if (r >= b.rows || numbers.of(r) == 0) {
      words[r] = fixed::scaled(0, fixed::kNoScale);
      b.lift[r] = b.factor[r] = 0;
      continue;
    }
    b.lift[r] = 31 - fixed::width(numbers.of(r));
    b.factor[r] = int32_t(quotient(int64_t{kLimit} << (31 + kQuotientFraction), tops.of(r), near.of(r)));
    const uint32_t scale = uint32_t(tops.of(r)) + uint32_t(tops.of(r)) / kLimit;  // top * 128 / 127
    const int32_t mantissa = int32_t((scale >> 16) + (scale >> 15 & 1)), exponent = 16 - 7 - b.lift[r] - fixed::kFraction;
    const bool over = mantissa > 32767;
    words[r] = fixed::scaled(over ? int32_t((scale >> 17) + (scale >> 16 & 1)) : mantissa, over ? exponent + 1 : exponent);
  }
}

// n integers, in lanes.
HVL_HVX Vector to_integers(const int32_t* x, int32_t n, int32_t lift, Vector factor) {
  return clamp(round_down<kQuotientFraction>(mul31(Q6_Vw_vasl_VwR(load_row(x, n), lift), factor)), kLimit);
}

// The column's integers of row r, a byte each; zeros beyond the last dim.
HVL_HVX Vector to_bytes(const Rows& b, int32_t r, int32_t column) {
  const int32_t* from = b.x + r * b.stride + column;
  const int32_t left = b.head_dim - column, lift = b.lift[r];
  const Vector factor = splat(b.factor[r]);
  Vector x[4];
  if (left >= kColumn) {
    for (int v = 0; v < 4; ++v) x[v] = to_integers(from + v * kLanes, kLanes, lift, factor);
  } else {
    for (int v = 0; v < 4; ++v) x[v] = v * kLanes < left ? to_integers(from + v * kLanes, left - v * kLanes, lift, factor) : zero();
  }
  return Q6_Vb_vpacke_VhVh(Q6_Vh_vpacke_VwVw(x[3], x[2]), Q6_Vh_vpacke_VwVw(x[1], x[0]));
}

// Where the bytes of v that `keep` has come from what is there.
HVL_HVX void merge(uint8_t* at, Vector v, HVX_VectorPred keep) { store_unaligned(at, Q6_V_vmux_QVV(keep, load_unaligned(at), v)); }

// `bytes` columns of 16 rows, in fours, to [four][key]: four rounds of zipping row i with row i + 8.
void store_keys(Vector (&rows)[kMostRows], int32_t bytes, int32_t first, uint8_t* out) {
#pragma unroll
  for (int round = 0; round < 4; ++round) {
    Vector zipped[kMostRows];
    for (int i = 0; i < 8; ++i) {
      const HVX_VectorPair pair = Q6_W_vshuff_VVR(rows[i + 8], rows[i], -4);
      zipped[2 * i] = Q6_V_lo_W(pair);
      zipped[2 * i + 1] = Q6_V_hi_W(pair);
    }
    for (int i = 0; i < kMostRows; ++i) rows[i] = zipped[i];
  }
  const Vector below = Q6_V_vand_QR(Q6_Q_vsetq_R(4 * first), -1);  // of both halves, fours of as many keys
  const HVX_VectorPred keep = Q6_Q_vand_VR(Q6_V_vor_VV(below, Q6_V_vror_VR(below, 64)), -1);
  for (int32_t i = 0; 8 * i < bytes; ++i)
    first == 0 ? store_unaligned(out + i * kVectorBytes, rows[i]) : merge(out + i * kVectorBytes, rows[i], keep);
}

// The same to [four keys][dim][key]; out: of the first four keys and of the column's first dim, rows of `four_keys` bytes.
void store_values(const Vector (&rows)[kMostRows], int32_t bytes, int32_t first, uint8_t* out, int32_t four_keys) {
  for (int32_t q = first / 4; q < 4; ++q) {
    const HVX_VectorPair even = Q6_W_vshuff_VVR(rows[4 * q + 1], rows[4 * q], -1),
                         odd = Q6_W_vshuff_VVR(rows[4 * q + 3], rows[4 * q + 2], -1);
    const HVX_VectorPair low = Q6_W_vshuff_VVR(Q6_V_lo_W(odd), Q6_V_lo_W(even), -2),
                         high = Q6_W_vshuff_VVR(Q6_V_hi_W(odd), Q6_V_hi_W(even), -2);
    const Vector dims[4] = {Q6_V_lo_W(low), Q6_V_hi_W(low), Q6_V_lo_W(high), Q6_V_hi_W(high)};
    const int32_t kept = most(first - 4 * q, 0);  // keys of these four: under 4
    const HVX_VectorPred keep = Q6_Q_vand_VR(splat((1 << 8 * kept) - 1), -1);
    for (int32_t d = 0; d < bytes; d += kLanes) {
      uint8_t* at = out + q * four_keys + 4 * d;
      const int32_t n = least(bytes - d, kLanes);  // 16 or 32 dims
      const Vector v =
          kept == 0 ? dims[d / kLanes] : Q6_V_vmux_QVV(keep, load_row(reinterpret_cast<const int32_t*>(at), n), dims[d / kLanes]);
      store_row(reinterpret_cast<int32_t*>(at), n, v);
    }
  }
}

void store_block(Rows& b, bool keys, uint8_t* block) {
  const int32_t padded = kv_padded(b.head_dim);
  store_scales(b, block);
  for (int32_t column = 0; column < padded; column += kColumn) {
    const int32_t bytes = least(padded - column, kColumn);
    Vector rows[kMostRows];
    for (int32_t key = 0; key < kMostRows; ++key) {
      const int32_t r = key - b.first;
      rows[key] = 0 <= r && r < b.rows ? to_bytes(b, r, column) : zero();
    }
    if (keys) {
      store_keys(rows, bytes, b.first, block + kKvScaleBytes + column * kKvKeyBlock);
    } else {
      store_values(rows, bytes, b.first, block + kKvScaleBytes + 4 * column, 4 * padded);
    }
  }
}

}  // namespace

void kv_store_hvx(const KvStoreArgs& args, int32_t begin, int32_t end) noexcept {
  const KvCache& cache = args.cache;
  if (args.rows <= 0 || cache.bits != 8) return;
  const int64_t block_bytes = kv_block_bytes(cache.head_dim, 8), side = kv_side_bytes(1, cache.head_dim, cache.capacity, 8);
  for (int32_t head = begin; head < end; ++head) {
    for (int32_t row = 0, count; row < args.rows; row += count) {
      const int32_t position = args.position + row, first = position % kKvKeyBlock;
      count = least(args.rows - row, kKvKeyBlock - first);
      const int64_t to = head * side + position / kKvKeyBlock * block_bytes, from = row * args.kv_stride + int64_t{head} * cache.head_dim;
      Rows k = {reinterpret_cast<const int32_t*>(args.k) + from, args.kv_stride, cache.head_dim, first, count, {}, {}};
      store_block(k, true, cache.k + to);
      Rows v = {reinterpret_cast<const int32_t*>(args.v) + from, args.kv_stride, cache.head_dim, first, count, {}, {}};
      store_block(v, false, cache.v + to);
    }
  }
}

}  // namespace hvl

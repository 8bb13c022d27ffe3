#include "csrc/io/quantize_groups.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <atomic>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace hvl {
namespace {

constexpr int kLanes = 16;
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to nearest even
constexpr float kZeroGroupScale = 0x1p-14f;
constexpr float kLargestF16 = 65504.0f;

// Rounds a positive float to the nearest F16 value (to 11 significant bits, or to a multiple of 2^-24), never to zero.
float to_f16(float x) {
  if (x >= kLargestF16) return kLargestF16;
  if (x < 0x1p-14f) return std::max(0x1p-24f, float(int32_t(x * 0x1p24f + 0.5f)) * 0x1p-24f);
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x0fffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  memcpy(&x, &bits, 4);
  return std::min(x, kLargestF16);
}

struct Range {
  float low, high;
};

float rounded(float x, float inverse, Range range) {
  float r = x * inverse;
  r = r < range.low ? range.low : r;  // before rounding: keeps |r| within what kRound can round
  r = r > range.high ? range.high : r;
  return (r + kRound) - kRound;
}

float squared_error(const float* x, int64_t n, float scale, Range range) {
  const float inverse = 1.0f / scale;
  float sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float d = x[i + lane] - scale * rounded(x[i + lane], inverse, range);
      sum[lane] += d * d;
    }
  }
  for (; i < n; ++i) {
    const float d = x[i] - scale * rounded(x[i], inverse, range);
    sum[0] += d * d;
  }
  float total = 0.0f;
  for (const float s : sum) total += s;
  return total;
}

// NaN when a value is not finite.
float largest_magnitude(const float* x, int64_t n) {
  float top = 0.0f, check = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    top = std::max(top, fabsf(x[i]));
    check += x[i] * 0.0f;
  }
  return top + check;
}

float best_scale(const float* x, int64_t n, float top, int32_t bits, Range range, bool search) {
  const float whole = top / range.high;
  float scale = to_f16(whole);
  if (!search) return scale;
  const int candidates = bits == 4 ? 25 : 10;
  float least = squared_error(x, n, scale, range);
  for (int c = 1; c <= candidates; ++c) {
    const float candidate = to_f16(whole * (1.0f - 0.02f * static_cast<float>(c)));
    const float error = squared_error(x, n, candidate, range);
    if (error < least) {
      least = error;
      scale = candidate;
    }
  }
  return scale;
}

}  // namespace

void quantize_groups(const float* weight, int64_t rows, int64_t cols, int32_t bits, int64_t group_size, bool search, int8_t* q,
                     float* scales) {
  if (bits != 4 && bits != 8) fail(ErrorKind::kValue, "expected 4 or 8 bits, got ", bits);
  if (group_size < 1 || cols % group_size != 0) fail(ErrorKind::kValue, "a group of ", group_size, " does not divide ", cols, " columns");
  const Range range = bits == 4 ? Range{-8.0f, 7.0f} : Range{-128.0f, 127.0f};
  const int64_t groups = cols / group_size;
  std::atomic<int64_t> bad{-1};
  const size_t smallest = static_cast<size_t>(std::max<int64_t>(1, (int64_t(1) << 16) / std::max<int64_t>(1, cols)));
  parallel_ranges(static_cast<size_t>(rows), smallest, [&](size_t begin, size_t end) {
    for (int64_t group = int64_t(begin) * groups; group < int64_t(end) * groups; ++group) {
      const float* x = weight + group * group_size;
      const float top = largest_magnitude(x, group_size);
      if (!(top <= 3.0e38f)) bad = group / groups;
      const float scale = top > 0.0f ? best_scale(x, group_size, top, bits, range, search) : kZeroGroupScale;
      const float inverse = 1.0f / scale;
      scales[group] = scale;
      for (int64_t i = 0; i < group_size; ++i) q[group * group_size + i] = static_cast<int8_t>(rounded(x[i], inverse, range));
    }
  });
  if (bad >= 0) fail(ErrorKind::kValue, "row ", bad.load(), " has a value that is not finite");
}

}  // namespace hvl

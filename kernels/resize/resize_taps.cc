#include "kernels/resize/resize_taps.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace hvl {
namespace {

constexpr int32_t kMaxSize = 1 << 24;
constexpr double kFixedOne = 1 << 22;

// The order of the operations below is Pillow's: the taps must round the same way.
double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

int32_t to_fixed(double w) { return int32_t(w < 0 ? -0.5 + w * kFixedOne : 0.5 + w * kFixedOne); }

}  // namespace

ResizeTaps resize_taps(int32_t in_size, int32_t out_size, ResizeFilter filter) {
  if (in_size < 1 || in_size > kMaxSize || out_size < 1 || out_size > kMaxSize) {
    fail(ErrorKind::kValue, "resize: expected sizes in 1 .. ", kMaxSize, ", got ", in_size, " -> ", out_size);
  }
  const bool cubic = filter == ResizeFilter::kBicubic;
  const double scale = double(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);  // shrinking widens the filter: antialiasing
  const double support = (cubic ? 2.0 : 1.0) * filter_scale;
  const double inverse = 1.0 / filter_scale;

  std::vector<int32_t> begins(out_size), counts(out_size);
  ResizeTaps result;
  for (int32_t i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    begins[i] = std::max(int32_t(center - support + 0.5), 0);
    counts[i] = std::min(int32_t(center + support + 0.5), in_size) - begins[i];
    result.taps = std::max(result.taps, counts[i]);
  }
  result.first.resize(out_size);
  result.weights.assign(size_t(out_size) * result.taps, 0);
  std::vector<double> raw(result.taps);
  for (int32_t i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    double sum = 0;
    for (int32_t t = 0; t < counts[i]; ++t) {
      const double x = (t + begins[i] - center + 0.5) * inverse;
      raw[t] = cubic ? bicubic(x) : bilinear(x);
      sum += raw[t];
    }
    // An output near the end has fewer taps: start earlier, with zero weights, so that a kernel may always read all of them.
    result.first[i] = std::min(begins[i], in_size - result.taps);
    int32_t* weights = result.weights.data() + size_t(i) * result.taps + (begins[i] - result.first[i]);
    for (int32_t t = 0; t < counts[i]; ++t) weights[t] = to_fixed(sum != 0 ? raw[t] / sum : raw[t]);
  }
  result.digits = resize_digits(out_size, result.taps, result.weights.data());
  return result;
}

std::vector<int32_t> resize_digits(int32_t out_size, int32_t taps, const int32_t* weights) {
  std::vector<int32_t> digits(size_t(taps + 3) / 4 * 4 * out_size, 0);
  for (int32_t t = 0; t < taps; ++t) {
    int32_t* low = digits.data() + size_t(t / 2) * 2 * out_size;
    int32_t* high = low + out_size;
    const int place = t % 2 * 16;
    for (int32_t i = 0; i < out_size; ++i) {
      const int32_t w = weights[size_t(i) * taps + t];
      const auto digit = int16_t(w & 0xffff);
      low[i] = int32_t(uint32_t(low[i]) | uint32_t(uint16_t(digit)) << place);
      high[i] = int32_t(uint32_t(high[i]) | uint32_t(uint16_t((w - digit) >> 16)) << place);
    }
  }
  return digits;
}

}  // namespace hvl

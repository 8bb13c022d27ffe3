#include "csrc/runtime/resizer.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace hvl {
namespace {

constexpr int64_t kStripBytes = 256 << 10;  // of a thread, between two passes
constexpr int32_t kStripLines = 128;        // of a pass by itself

// Where line 0 would lie, `bytes` before the first line that is there.
uint8_t* line_zero(uint8_t* there, int64_t bytes) { return reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(there) - size_t(bytes)); }

}  // namespace

Resized Resizer::resize(const uint8_t* rgb, const Resizing& how, uint8_t* out, const CancelCheck& cancel) {
  const ResizeTaps &x = how.across, &y = how.down;
  const int32_t height = how.height, width = how.width;
  const auto horizontal = [&](const uint8_t* from, int32_t lines, uint8_t* to, int32_t begin, int32_t end) {
    kernels_.resize_horizontal({from, to, lines, how.in_width, width, x.first.data(), x.weights.data(), x.taps, x.digits.data()}, begin, end);
  };
  const auto vertical = [&](const uint8_t* from, int32_t row_pixels, uint8_t* to, int32_t begin, int32_t end) {
    kernels_.resize_vertical({from, to, how.in_height, row_pixels, height, y.first.data(), y.weights.data(), y.taps, y.digits.data()}, begin, end);
  };
  if (width == how.in_width && height == how.in_height) {
    std::memcpy(out, rgb, size_t(how.out_bytes()));
    return Resized::kDone;
  }
  std::atomic<bool> stopped{false};
  const auto stop = [&](int thread) {
    if (thread == 0 && cancel.requested && cancel.requested(cancel.context)) stopped.store(true, std::memory_order_relaxed);
    return stopped.load(std::memory_order_relaxed);
  };
  if (width == how.in_width || height == how.in_height) {
    pool_.parallel_for_indexed(height, [&](int thread, int32_t begin, int32_t end) {
      for (int32_t b = begin; b < end && !stop(thread); b += kStripLines) {
        const int32_t e = std::min(b + kStripLines, end);
        width == how.in_width ? vertical(rgb, width, out, b, e) : horizontal(rgb, height, out, b, e);
      }
    });
    return stopped ? Resized::kCancelled : Resized::kDone;
  }

  // Strips of output lines; from the first pass they need `most` lines of `row` bytes, and one that may be read but does not count.
  const bool vertical_first = resize_vertical_first(how.in_height, how.in_width, height, width);
  const int64_t row = int64_t(vertical_first ? how.in_width : width) * 3;
  const int64_t fitting = kStripBytes / row;
  const int64_t wanted = vertical_first ? fitting : (fitting - y.taps) * height / how.in_height;
  const auto strip = int32_t(std::clamp<int64_t>(wanted, 1, height));
  int32_t most = strip;
  for (int32_t b = 0; b < height && !vertical_first; ++b) {
    most = std::max(most, y.first[std::min(b + strip, height) - 1] + y.taps - y.first[b]);
  }
  const int64_t strip_bytes = (most + 1) * row, total = strip_bytes * pool_.threads();
  if (total > int64_t(strips_.bytes()) && (total > PTRDIFF_MAX || !Arena::make(size_t(total), strips_))) return Resized::kNoRoom;
  pool_.parallel_for_indexed(height, [&](int thread, int32_t begin, int32_t end) {
    uint8_t* const lines = strips_.data() + thread * strip_bytes;
    int32_t first = 0, last = 0;  // what of the first pass is there
    for (int32_t b = begin; b < end && !stop(thread); b += strip) {
      const int32_t e = std::min(b + strip, end);
      if (vertical_first) {
        uint8_t* const between = line_zero(lines, b * row);
        vertical(rgb, how.in_width, between, b, e);
        horizontal(between, e + 1, out, b, e);
        continue;
      }
      const int32_t needed = y.first[b];
      if (needed < last) std::memmove(lines, lines + (needed - first) * row, size_t(last - needed) * row);
      first = needed;
      uint8_t* const between = line_zero(lines, first * row);
      const int32_t done = std::max(first, last);
      last = y.first[e - 1] + y.taps;
      horizontal(rgb, how.in_height, between, done, last);
      vertical(between, width, out, b, e);
    }
  });
  return stopped ? Resized::kCancelled : Resized::kDone;
}

}  // namespace hvl

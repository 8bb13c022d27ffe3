#include "csrc/model/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "csrc/base/error.h"
#include "kernels/resize/resize_taps.h"

namespace hvl {
namespace {

int32_t round_up(int32_t n, int32_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int32_t scaled_side(int32_t side, double scale) { return std::max(1, int32_t(std::floor(side * scale + 0.5))); }

constexpr int64_t kStripBytes = 256 << 10;  // of a thread, between the passes of a resize

// Where line 0 would lie, `bytes` before the first line that is there.
uint8_t* line_zero(uint8_t* there, int64_t bytes) { return reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(there) - size_t(bytes)); }

}  // namespace

ImageLayout layout_image(const ModelConfig& config, int32_t patch_size, int32_t height, int32_t width, double scale) {
  if (height <= 0 || width <= 0) {
    fail(ErrorKind::kValue, "an image must have at least one pixel, got height ", height, " and width ", width);
  }
  if (!(scale > 0.0 && scale <= 1.0)) fail(ErrorKind::kValue, "scale must lie in (0, 1], got ", scale);
  const TilingConfig& tiling = config.tiling;
  const int32_t unit = patch_size * tiling.pixel_shuffle;
  const auto tokens = [&](int32_t h, int32_t w) { return (h / unit) * (w / unit); };

  ImageLayout layout{};
  layout.resized_height = scaled_side(height, scale);
  layout.resized_width = scaled_side(width, scale);
  layout.padded_height = round_up(layout.resized_height, unit);
  layout.padded_width = round_up(layout.resized_width, unit);
  layout.grid_rows = (layout.padded_height + tiling.tile_size - 1) / tiling.tile_size;
  layout.grid_cols = (layout.padded_width + tiling.tile_size - 1) / tiling.tile_size;
  layout.tiles.reserve(size_t(layout.grid_rows) * layout.grid_cols + 1);
  for (int32_t r = 0; r < layout.grid_rows; ++r) {
    for (int32_t c = 0; c < layout.grid_cols; ++c) {
      const int32_t top = r * tiling.tile_size, left = c * tiling.tile_size;
      layout.tiles.push_back({top, left, std::min(tiling.tile_size, layout.padded_height - top),
                              std::min(tiling.tile_size, layout.padded_width - left), false});
    }
  }
  layout.thumbnail = tiling.use_thumbnail && layout.tiles.size() > 1;
  if (layout.thumbnail) {
    const int32_t longer = std::max(layout.resized_height, layout.resized_width);
    const auto shrink = [&](int32_t side) { return scaled_side(side, double(tiling.tile_size) / longer); };
    layout.thumbnail_height = shrink(layout.resized_height);
    layout.thumbnail_width = shrink(layout.resized_width);
    const Tile tile{0, 0, round_up(layout.thumbnail_height, unit), round_up(layout.thumbnail_width, unit), true};
    layout.tiles.insert(tiling.thumbnail_first ? layout.tiles.begin() : layout.tiles.end(), tile);
  }
  for (const Tile& tile : layout.tiles) layout.visual_tokens += tokens(tile.height, tile.width);
  return layout;
}

std::vector<int32_t> image_token_ids(const ModelConfig& config, int32_t patch_size, const ImageLayout& layout) {
  const TilingConfig& tiling = config.tiling;
  const int32_t unit = patch_size * tiling.pixel_shuffle;
  std::vector<int32_t> ids;
  ids.reserve(layout.visual_tokens + layout.tiles.size());
  const auto separator = [&](int32_t id) {
    if (id >= 0) ids.push_back(id);
  };
  const auto image = [&](int32_t count) { ids.insert(ids.end(), count, config.image_token_id); };
  const auto thumbnail = [&] {
    const Tile& tile = tiling.thumbnail_first ? layout.tiles.front() : layout.tiles.back();
    image(tile.height / unit * (tile.width / unit));
  };

  if (layout.thumbnail && tiling.thumbnail_first) {
    thumbnail();
    separator(tiling.thumbnail_separator_id);
  }
  if (tiling.raster_order) {
    for (int32_t row = 0; row < layout.padded_height / unit; ++row) {
      if (row > 0) separator(tiling.row_separator_id);
      image(layout.padded_width / unit);
    }
  } else {
    const size_t first = layout.thumbnail && tiling.thumbnail_first ? 1 : 0;
    for (int32_t r = 0; r < layout.grid_rows; ++r) {
      if (r > 0) separator(tiling.row_separator_id);
      for (int32_t c = 0; c < layout.grid_cols; ++c) {
        if (c > 0) separator(tiling.tile_separator_id);
        const Tile& tile = layout.tiles[first + size_t(r) * layout.grid_cols + c];
        image(tile.height / unit * (tile.width / unit));
      }
    }
  }
  if (layout.thumbnail && !tiling.thumbnail_first) {
    separator(tiling.thumbnail_separator_id);
    thumbnail();
  }
  return ids;
}

PixelTable make_pixel_table(const PreprocessorConfig& config, Arithmetic arithmetic) {
  PixelTable table;
  table.entries.resize(3 * 257);
  double value[3][257];
  double largest = 0.0;
  bool exact_halves = true;  // (x / 255 - 0.5) / 0.5 = (2x - 255) / 255 is an integer over 255
  for (int c = 0; c < 3; ++c) {
    const double mean = config.image_mean[c], std = config.image_std[c];
    exact_halves &= mean == 0.5 && std == 0.5;
    for (int x = 0; x < 256; ++x) value[c][x] = (x / 255.0 - mean) / std;
    value[c][256] = config.pad_normalized ? double(config.pad_value) : (config.pad_value / 255.0 - mean) / std;
    for (double v : value[c]) largest = std::max(largest, std::fabs(v));
  }
  const double pad_steps = value[0][256] * 255.0;
  exact_halves &= pad_steps == std::floor(pad_steps) && std::fabs(pad_steps) <= 32767.0;
  double scale = exact_halves ? 1.0 / 255.0 : largest / 32767.0;
  if (arithmetic == Arithmetic::kInteger) scale = std::exp2(std::ceil(std::log2(largest / 32767.0)));
  table.scale = float(scale);
  for (int c = 0; c < 3; ++c) {
    for (int x = 0; x <= 256; ++x) table.entries[c * 257 + x] = int16_t(std::floor(value[c][x] / scale + 0.5));
  }
  return table;
}

void Resizer::resize(const ImageView& image, int32_t height, int32_t width, bool bicubic, std::vector<uint8_t>& out) {
  out.resize(size_t(height) * width * 3);
  const bool across = width != image.width, down = height != image.height;
  if (!across && !down) {
    std::memcpy(out.data(), image.rgb, out.size());
    return;
  }
  const ResizeFilter filter = bicubic ? ResizeFilter::kBicubic : ResizeFilter::kBilinear;
  const ResizeTaps x = across ? resize_taps(image.width, width, filter) : ResizeTaps{};
  const ResizeTaps y = down ? resize_taps(image.height, height, filter) : ResizeTaps{};
  const auto horizontal = [&](const uint8_t* from, int32_t lines, uint8_t* to, int32_t begin, int32_t end) {
    kernels_.resize_horizontal({from, to, lines, image.width, width, x.first.data(), x.weights.data(), x.taps, x.digits.data()}, begin, end);
  };
  const auto vertical = [&](const uint8_t* from, int32_t row_pixels, uint8_t* to, int32_t begin, int32_t end) {
    kernels_.resize_vertical({from, to, image.height, row_pixels, height, y.first.data(), y.weights.data(), y.taps, y.digits.data()}, begin,
                             end);
  };
  if (!across) {
    pool_.parallel_for(height, [&](int32_t begin, int32_t end) { vertical(image.rgb, width, out.data(), begin, end); });
    return;
  }
  if (!down) {
    pool_.parallel_for(height, [&](int32_t begin, int32_t end) { horizontal(image.rgb, height, out.data(), begin, end); });
    return;
  }

  // Strips of output lines; from the first pass they need `most` lines of `row` bytes, and one that may be read but does not count.
  const bool vertical_first = resize_vertical_first(image.height, image.width, height, width);
  const int64_t row = int64_t(vertical_first ? image.width : width) * 3;
  const int64_t fitting = kStripBytes / row;
  const int64_t wanted = vertical_first ? fitting : (fitting - y.taps) * height / image.height;
  const auto strip = int32_t(std::clamp<int64_t>(wanted, 1, height));
  int32_t most = strip;
  for (int32_t b = 0; b < height && !vertical_first; ++b) {
    most = std::max(most, y.first[std::min(b + strip, height) - 1] + y.taps - y.first[b]);
  }
  strips_.resize(pool_.threads());
  for (std::vector<uint8_t>& memory : strips_) memory.resize(std::max(memory.size(), size_t(most + 1) * row));
  pool_.parallel_for_indexed(height, [&](int thread, int32_t begin, int32_t end) {
    uint8_t* const lines = strips_[thread].data();
    int32_t first = 0, last = 0;  // what of the first pass is there
    for (int32_t b = begin; b < end; b += strip) {
      const int32_t e = std::min(b + strip, end);
      if (vertical_first) {
        uint8_t* const between = line_zero(lines, b * row);
        vertical(image.rgb, image.width, between, b, e);
        horizontal(between, e + 1, out.data(), b, e);
        continue;
      }
      const int32_t needed = y.first[b];
      if (needed < last) std::memmove(lines, lines + (needed - first) * row, size_t(last - needed) * row);
      first = needed;
      uint8_t* const between = line_zero(lines, first * row);
      const int32_t done = std::max(first, last);
      last = y.first[e - 1] + y.taps;
      horizontal(image.rgb, image.height, between, done, last);
      vertical(between, width, out.data(), b, e);
    }
  });
}

}  // namespace hvl

#include "csrc/model/preprocess.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace hvl {
namespace {

int32_t round_up(int32_t n, int32_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int32_t scaled_side(int32_t side, double scale) { return std::max(1, int32_t(std::floor(side * scale + 0.5))); }

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

Resizing resizing_to(const ImageView& image, int32_t height, int32_t width, bool bicubic) {
  const ResizeFilter filter = bicubic ? ResizeFilter::kBicubic : ResizeFilter::kBilinear;
  return {image.height, image.width, height, width, width != image.width ? resize_taps(image.width, width, filter) : ResizeTaps{},
          height != image.height ? resize_taps(image.height, height, filter) : ResizeTaps{}};
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

}  // namespace hvl

// From an image to the pixels of its tiles: where each tile lies (docs/checkpoint.md), to which size it is resized, normalisation.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/model/config.h"
#include "csrc/runtime/resizer.h"
#include "kernels/registry.h"

namespace hvl {

// A decoded image: 8-bit RGB, (height, width, 3) contiguous.
struct ImageView {
  const uint8_t* rgb;
  int32_t height;
  int32_t width;
};

// One tile: a rectangle of the resized image (or of the thumbnail), both sides multiples of patch_size * pixel_shuffle; it may reach
// past the image, into the padding.
struct Tile {
  int32_t top, left, height, width;  // pixels
  bool thumbnail;
};

struct ImageLayout {
  int32_t resized_height, resized_width;      // after the scale
  int32_t padded_height, padded_width;        // multiples of patch_size * pixel_shuffle
  int32_t grid_rows, grid_cols;               // tiles
  bool thumbnail;
  int32_t thumbnail_height, thumbnail_width;  // before padding
  std::vector<Tile> tiles;                    // in the order they are encoded
  int32_t visual_tokens;
};

// Throws Error(kValue) when a side is not positive or scale is outside (0, 1].
ImageLayout layout_image(const ModelConfig& config, int32_t patch_size, int32_t height, int32_t width, double scale);

// Placeholders and separators that stand for the image in input_ids.
std::vector<int32_t> image_token_ids(const ModelConfig& config, int32_t patch_size, const ImageLayout& layout);

Resizing resizing_to(const ImageView& image, int32_t height, int32_t width, bool bicubic);

// (3, 257) table of kernels/patchify and the scale of its integers: value = entry * scale, of the integer arithmetic a power of two.
struct PixelTable {
  std::vector<int16_t> entries;
  float scale;
};
PixelTable make_pixel_table(const PreprocessorConfig& config, Arithmetic arithmetic);

}  // namespace hvl

// SigLIP2 vision tower: one tile of pixels in, one row of features a patch out (transformers' SiglipVisionModel up to post_layernorm).
#pragma once

#include <string>
#include <vector>

#include "csrc/io/weight_store.h"
#include "csrc/model/config.h"
#include "csrc/program/program.h"

namespace hvl {

// Bound buffers: "image" (u8, the whole resized image), "pixel_table", "features" (grid_h * grid_w, hidden). The weight named
// kPositionRows is the position embedding of this grid (position_rows). kv_bits: of the tile's own keys and values, 16 or 8.
inline constexpr const char* kPositionRows = "position_rows";
Program siglip2_tile_program(const VisionConfig& config, const WeightStore& weights, const std::string& branch, int32_t grid_h,
                             int32_t grid_w, float pixel_scale, int32_t activation_bits, int32_t kv_bits);

// Position embedding (grid_h * grid_w, hidden) of a tile of that many patches, when a full tile has tile_grid x tile_grid.
std::vector<float> position_rows(const VisionConfig& config, const float* table, int32_t tile_grid, int32_t grid_h, int32_t grid_w,
                                 bool interpolate_edges);

// Bicubic (a = -0.75), align_corners=False, no antialias: torch's interpolate. (in, in, cols) -> (out_h, out_w, cols).
std::vector<float> resize_positions(const float* table, int32_t in, int32_t out_h, int32_t out_w, int32_t cols);

// A linear's shape as the program builder needs it, from the stored weight; rows and cols are checked.
struct LinearShape linear_shape(const WeightStore& weights, const std::string& name, int32_t rows, int32_t cols);

}  // namespace hvl

// config.json as the model code needs it. Python parses and validates (python/hypervl_engine/config.py); csrc/bindings/config.cc fills this in.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/activation/activation.h"

namespace hvl {

struct TextConfig {
  int32_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
  int32_t max_position_embeddings;
  float rms_norm_eps;
  double rope_theta;
  bool tie_word_embeddings;
};

struct VisionConfig {
  int32_t hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, image_size, patch_size;
  ActivationKind hidden_act;
  float layer_norm_eps;
};

struct ProjectorConfig {
  int32_t hidden_size;
  ActivationKind hidden_act;
};

struct PreprocessorConfig {
  std::array<float, 3> image_mean, image_std;
  bool bicubic;         // else bilinear
  float pad_value;
  bool pad_normalized;  // pad_value is a normalised value; else a pixel value 0 .. 255
};

struct TilingConfig {
  int32_t tile_size, pixel_shuffle;
  bool interpolate_edge_positions;  // else cropped
  bool use_thumbnail, thumbnail_first;
  bool raster_order;                // else tile after tile
  int32_t tile_separator_id, row_separator_id, thumbnail_separator_id;  // -1: none
};

struct VrcConfig {
  int32_t image_size, stem_channels, last_channels, hidden_size;
  std::vector<std::array<int32_t, 4>> blocks;  // expansion, channels, repeats, first stride
  int32_t size_norm;                           // pixels; 0: no size features
  std::vector<double> grid;                    // the scales that may be chosen, ascending
};

struct ModelConfig {
  TextConfig text;
  std::map<std::string, VisionConfig> vision;        // by branch
  std::map<std::string, ProjectorConfig> projector;  // by branch
  std::string default_branch;
  PreprocessorConfig preprocessor;
  TilingConfig tiling;
  std::optional<VrcConfig> vrc;
  int32_t image_token_id;
};

}  // namespace hvl

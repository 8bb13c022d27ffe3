// Pixel shuffle and two linear layers: a tile's features -> image embeddings of the LLM.
#pragma once

#include <string>

#include "csrc/io/weight_store.h"
#include "csrc/model/config.h"
#include "csrc/program/program.h"

namespace hvl {

// Bound buffers: "features" (grid_h * grid_w, vision hidden), "image_embeds" (tokens, text hidden).
Program projector_program(const ModelConfig& config, const WeightStore& weights, const std::string& branch, int32_t grid_h,
                          int32_t grid_w, int32_t activation_bits);

}  // namespace hvl

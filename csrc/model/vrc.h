// VRC, the visual resolution compressor: a thumbnail of the image -> the scale at which the image is encoded. Integers throughout
// (docs/checkpoint.md), so that every machine picks the same scale.
#pragma once

#include <functional>

#include "csrc/base/arena.h"
#include "csrc/io/weight_store.h"
#include "csrc/model/config.h"
#include "csrc/runtime/executable.h"
#include "kernels/vrc/pack.h"

namespace hvl {

class Vrc {
 public:
  using Prepare = std::function<Executable(Program program, const WeightResolver& resolve)>;
  Vrc(const VrcConfig& config, const WeightStore& weights, const Prepare& prepare);

  // Bound buffers: "rgb" (image_size, image_size, 3), "pooled" (pooled_size(), written by set_size_features before the run),
  // "index" (kVrcLanes; the first byte is the answer).
  const Executable& executable() const { return executable_; }
  int32_t pooled_size() const;
  void set_size_features(int32_t height, int32_t width, uint8_t* pooled) const;
  double scale(uint8_t index) const;
  const Arena& weights() const { return weights_; }

 private:
  const VrcConfig config_;
  Arena weights_;  // packed, of all layers
  Executable executable_;
};

}  // namespace hvl

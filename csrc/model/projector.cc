#include "csrc/model/projector.h"

#include "csrc/model/siglip2.h"
#include "csrc/program/builder.h"

namespace hvl {

Program projector_program(const ModelConfig& config, const WeightStore& weights, const std::string& branch, int32_t grid_h,
                          int32_t grid_w, int32_t activation_bits) {
  const VisionConfig& vision = config.vision.at(branch);
  const ProjectorConfig& projector = config.projector.at(branch);
  const int32_t s = config.tiling.pixel_shuffle, tokens = grid_h / s * (grid_w / s);
  const int32_t in = vision.hidden_size * s * s, hidden = projector.hidden_size, text = config.text.hidden_size;
  const std::string name = "model.projector." + branch + ".";
  const LinearShape shape1 = linear_shape(weights, name + "linear_1", hidden, in);
  const LinearShape shape2 = linear_shape(weights, name + "linear_2", text, hidden);

  ProgramBuilder b("projector", activation_bits);
  const BufferId features = b.bound("features", DType::kF32, grid_h * grid_w, vision.hidden_size);
  const BufferId image_embeds = b.bound("image_embeds", DType::kF32, tokens, text);
  b.begin_section("projector");
  const BufferId shuffled = b.pixel_shuffle(features, grid_h, grid_w, s);  // (tokens, vision hidden * s^2)
  const BufferId h = b.linear(b.quantize(shuffled, shape1.group_size), b.weight(name + "linear_1.weight"), shape1,
                              b.weight(name + "linear_1.bias"));            // (tokens, projector hidden)
  b.activation(h, int32_t(projector.hidden_act));
  b.linear(b.quantize(h, shape2.group_size), b.weight(name + "linear_2.weight"), shape2, b.weight(name + "linear_2.bias"), kNone, image_embeds);
  b.end_section();
  return b.finish();
}

}  // namespace hvl

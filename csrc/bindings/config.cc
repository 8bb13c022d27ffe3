// config.json (a dict) -> ModelConfig. hypervl_engine.config has validated it; a key that is missing all the same is a CheckpointError.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "csrc/base/error.h"
#include "csrc/bindings/bindings.h"

namespace py = pybind11;
using namespace hvl;

namespace {

template <typename T>
T get(const py::dict& d, const char* key) {
  if (!d.contains(key)) fail(ErrorKind::kCheckpoint, "config.json: '", key, "' is missing");
  try {
    return d[key].cast<T>();
  } catch (const py::cast_error&) {
    fail(ErrorKind::kCheckpoint, "config.json: '", key, "' has an unexpected type: ", std::string(py::repr(d[key])));
  }
}

template <typename T>
T get_or(const py::dict& d, const char* key, T otherwise) {
  return d.contains(key) && !d[key].is_none() ? get<T>(d, key) : otherwise;
}

ActivationKind activation(const std::string& name) {
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return ActivationKind::kGeluTanh;
  if (name == "gelu") return ActivationKind::kGeluErf;
  if (name == "silu") return ActivationKind::kSilu;
  if (name == "relu") return ActivationKind::kRelu;
  if (name == "quick_gelu") return ActivationKind::kQuickGelu;
  fail(ErrorKind::kCheckpoint, "config.json: hidden_act '", name,
       "' is not supported; supported: gelu_pytorch_tanh, gelu_new, gelu, silu, relu, quick_gelu");
}

TextConfig text_config(const py::dict& d) {
  return {get<int32_t>(d, "vocab_size"),
          get<int32_t>(d, "hidden_size"),
          get<int32_t>(d, "intermediate_size"),
          get<int32_t>(d, "num_hidden_layers"),
          get<int32_t>(d, "num_attention_heads"),
          get<int32_t>(d, "num_key_value_heads"),
          get<int32_t>(d, "head_dim"),
          get<int32_t>(d, "max_position_embeddings"),
          get<float>(d, "rms_norm_eps"),
          get<double>(d, "rope_theta"),
          get<bool>(d, "tie_word_embeddings")};
}

VisionConfig vision_config(const py::dict& d) {
  return {get<int32_t>(d, "hidden_size"),         get<int32_t>(d, "intermediate_size"), get<int32_t>(d, "num_hidden_layers"),
          get<int32_t>(d, "num_attention_heads"), get<int32_t>(d, "image_size"),        get<int32_t>(d, "patch_size"),
          activation(get<std::string>(d, "hidden_act")), get<float>(d, "layer_norm_eps")};
}

TilingConfig tiling_config(const py::dict& d) {
  return {get<int32_t>(d, "tile_size"),
          get<int32_t>(d, "pixel_shuffle"),
          get<std::string>(d, "edge_positions") == "interpolate",
          get<bool>(d, "use_thumbnail"),
          get<std::string>(d, "thumbnail_position") == "first",
          get<std::string>(d, "token_order") == "raster",
          get_or<int32_t>(d, "tile_separator_id", -1),
          get_or<int32_t>(d, "row_separator_id", -1),
          get_or<int32_t>(d, "thumbnail_separator_id", -1)};
}

VrcConfig vrc_config(const py::dict& d) {
  VrcConfig c{get<int32_t>(d, "image_size"), get<int32_t>(d, "stem_channels"), get<int32_t>(d, "last_channels"), get<int32_t>(d, "hidden_size"), {},
              get_or<int32_t>(d, "size_norm", 0), get<std::vector<double>>(d, "grid")};
  c.blocks = get<std::vector<std::array<int32_t, 4>>>(d, "blocks");
  return c;
}

}  // namespace

ModelConfig model_config_from(const py::dict& d) {
  ModelConfig c;
  c.text = text_config(get<py::dict>(d, "text_config"));
  for (const auto& [name, vision] : get<py::dict>(d, "vision_configs")) {
    c.vision[name.cast<std::string>()] = vision_config(vision.cast<py::dict>());
  }
  for (const auto& [name, projector] : get<py::dict>(d, "projector_configs")) {
    const auto p = projector.cast<py::dict>();
    c.projector[name.cast<std::string>()] = {get<int32_t>(p, "hidden_size"), activation(get<std::string>(p, "hidden_act"))};
  }
  c.default_branch = get<std::string>(d, "default_branch");
  const auto pre = get<py::dict>(d, "preprocessor");
  c.preprocessor = {get<std::array<float, 3>>(pre, "image_mean"), get<std::array<float, 3>>(pre, "image_std"),
                    get<std::string>(pre, "resample") == "bicubic", get<float>(pre, "pad_value"),
                    get<std::string>(pre, "pad_stage") == "normalized"};
  c.tiling = tiling_config(get<py::dict>(d, "tiling"));
  if (d.contains("vrc_config") && !d["vrc_config"].is_none()) c.vrc = vrc_config(get<py::dict>(d, "vrc_config"));
  c.image_token_id = get<int32_t>(d, "image_token_id");
  return c;
}

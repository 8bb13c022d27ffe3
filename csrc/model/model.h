// A loaded checkpoint: immutable, shared between sessions and threads. Programs are recorded once a shape and kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "csrc/base/arena.h"
#include "csrc/io/weight_store.h"
#include "csrc/model/config.h"
#include "csrc/model/preprocess.h"
#include "csrc/model/vrc.h"
#include "csrc/remote/device.h"
#include "csrc/runtime/executable.h"
#include "csrc/runtime/transfers.h"
#include "csrc/schedule/hardware_spec.h"
#include "kernels/registry.h"

namespace hvl {

inline constexpr int32_t kPrefillChunk = 128;  // tokens a prefill step
inline constexpr int32_t kHeadRows = 8;        // positions whose logits are computed together, when all are asked for

struct ModelOptions {
  int32_t threads = 1;
  int32_t activation_bits = 16;      // 16 or 8
  int32_t kv_bits = 16;              // of the text model's KV cache: 16 or 8 (the integer arithmetic: 8)
  Arithmetic arithmetic = Arithmetic::kFloat;
  HardwareSpec spec;                 // what programs are planned for; its contexts are the threads
  int64_t budget = 0;                // bytes of fast memory; 0: what the spec has
  int32_t context_length = 0;        // prefill and decode are planned for it at once; 0: when they are first asked for
  std::vector<int> cpus;             // one for each thread (csrc/base/thread_pool.h), or none
  std::vector<Plan> plans;           // used for the programs they were made for; others are planned
  RemoteOptions remote;              // where programs run, if not here
};

// How one tile shape of one branch runs.
struct TileExecutables {
  Executable tower;      // pixels -> features (patches, vision hidden)
  Executable projector;  // features -> image embeddings (tokens, text hidden)
  Arena positions;       // (patches, vision hidden) float32, from the checkpoint's table
};

class Model {
 public:
  // Throws Error(kCheckpoint) when a tensor is missing or misshapen, Error(kValue) for bad options.
  Model(ModelConfig config, std::shared_ptr<const WeightStore> weights, const ModelOptions& options);

  const ModelConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  const WeightStore& weights() const { return *weights_; }
  const PixelTable& pixel_table() const { return pixel_table_; }
  const Vrc* vrc() const { return vrc_.get(); }
  int32_t patch_size() const { return config_.vision.begin()->second.patch_size; }

  ImageLayout layout(int32_t height, int32_t width, double scale) const;
  // Recorded at the first call for a (branch, tile height, tile width) in pixels; thread-safe. A tile at an image's edge gets no more fast
  // memory than a full one uses, so that memory does not depend on the image's size. One beyond the tile_size is a full tile of another tiling,
  // for planning. Error kValue for sides that patches and projector do not divide, or beyond 8192.
  const TileExecutables& tile(const std::string& branch, int32_t height, int32_t width) const;
  // Of max_rows tokens at a time; planned at the first call; thread-safe.
  const Executable& text_layers(int32_t context_length, int32_t max_rows) const;
  const Executable& text_head() const { return text_head_; }
  const VisionConfig& branch(const std::string& name) const;  // Error(kValue) naming the branches there are
  bool integer() const { return options_.arithmetic == Arithmetic::kInteger; }
  void add_ddr_ranges(std::vector<DdrRange>& ranges) const;  // everything of the model that programs read

 private:
  ResolvedWeight resolve(const std::string& name) const;
  // What `map` has for the key, or what `make` makes, kept.
  template <typename Map, typename Make>
  const typename Map::mapped_type::element_type& planned_once(Map& map, const typename Map::key_type& key, const Make& make) const;
  std::unique_ptr<TileExecutables> plan_tile(const std::string& name, int32_t height, int32_t width, const TileExecutables* full) const;
  // budget: 0 for the model's.
  Executable prepare(Program program, const WeightResolver& resolve, int64_t budget = 0) const;

  const ModelConfig config_;
  const std::shared_ptr<const WeightStore> weights_;
  ModelOptions options_;
  PixelTable pixel_table_;
  std::unique_ptr<Vrc> vrc_;
  Executable text_head_;
  mutable std::mutex mutex_;  // of what follows; planning goes on outside it
  mutable std::vector<Arena> integer_arrays_;  // of every Program
  mutable std::map<std::tuple<std::string, int32_t, int32_t>, std::unique_ptr<TileExecutables>> tiles_;
  mutable std::map<std::pair<int32_t, int32_t>, std::unique_ptr<Executable>> text_layers_;
};

}  // namespace hvl

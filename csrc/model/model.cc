#include "csrc/model/model.h"

#include <cstring>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/model/integer_arrays.h"
#include "csrc/model/projector.h"
#include "csrc/model/qwen3.h"
#include "csrc/model/siglip2.h"
#include "csrc/schedule/scheduler.h"

namespace hvl {
namespace {

constexpr int32_t kMostNormed = 32768;  // columns of a row whose sum of squares the integer arithmetic holds (docs/integer_arithmetic.md)

}  // namespace

Model::Model(ModelConfig config, std::shared_ptr<const WeightStore> weights, const ModelOptions& options)
    : config_(std::move(config)), weights_(std::move(weights)), options_(options), pixel_table_(make_pixel_table(config_.preprocessor, options.arithmetic)) {
  if (options_.activation_bits != 16 && options_.activation_bits != 8) {
    fail(ErrorKind::kValue, "activation_bits must be 16 or 8, got ", options_.activation_bits);
  }
  if (options_.kv_bits != 16 && options_.kv_bits != 8) fail(ErrorKind::kValue, "kv_bits must be 16 or 8, got ", options_.kv_bits);
  if (integer() && options_.kv_bits != 8) fail(ErrorKind::kValue, "the integer arithmetic has KV caches of 8 bits only, got kv_bits ", options_.kv_bits);
  const auto check_width = [&](int32_t columns) {
    if (integer() && columns > kMostNormed) {
      fail(ErrorKind::kCheckpoint, "the integer arithmetic normalises rows of at most ", kMostNormed, " columns, this checkpoint has ", columns);
    }
  };
  check_width(config_.text.hidden_size);
  for (const auto& entry : config_.vision) check_width(entry.second.hidden_size);
  if (options_.threads < 1 || options_.threads > 256) fail(ErrorKind::kValue, "threads must lie in 1 .. 256, got ", options_.threads);
  for (const auto& [name, vision] : config_.vision) {
    if (vision.patch_size != patch_size()) {
      fail(ErrorKind::kCheckpoint, "branches must share one patch_size, got ", vision.patch_size, " and ", patch_size());
    }
  }
  check_spec(options_.spec);
  if (int(options_.spec.contexts) < options_.threads) {
    fail(ErrorKind::kValue, "the hardware spec has ", options_.spec.contexts, " contexts, fewer than the ", options_.threads, " threads asked for");
  }
  if (options_.budget == 0) options_.budget = options_.spec.budget();
  options_.budget = options_.budget / kPlanAlignment * kPlanAlignment;
  if (options_.budget < kPlanAlignment || options_.budget > (int64_t(1) << 40)) {
    fail(ErrorKind::kValue, "the budget of fast memory must lie in ", kPlanAlignment, " .. 2^40 bytes, got ", options_.budget);
  }
  // Everything of full tiles and text now, side by side: a checkpoint that cannot run says so when it is loaded.
  std::vector<std::function<void()>> jobs;
  if (config_.vrc) {
    jobs.emplace_back([this] {
      vrc_ = std::make_unique<Vrc>(*config_.vrc, *weights_, [this](Program p, const WeightResolver& r) { return prepare(std::move(p), r); });
    });
  }
  jobs.emplace_back([this] {
    text_head_ = prepare(qwen3_head_program(config_.text, *weights_, kHeadRows, options_.activation_bits),
                         [this](const std::string& name) { return resolve(name); });
  });
  for (const auto& entry : config_.vision) {
    jobs.emplace_back([this, &entry] { tile(entry.first, config_.tiling.tile_size, config_.tiling.tile_size); });
  }
  if (options_.context_length > 0) {
    for (const int32_t rows : {kPrefillChunk, 1}) jobs.emplace_back([this, rows] { text_layers(options_.context_length, rows); });
  }
  parallel_jobs(jobs);
}

ResolvedWeight Model::resolve(const std::string& name) const {
  const StoredTensor& tensor = weights_->get(name);
  ResolvedWeight w;
  if (tensor.is_linear) {
    w.linear = tensor.linear;
  } else {
    w.data = tensor.data;
  }
  w.bytes = tensor.bytes;
  return w;
}

template <typename Map, typename Make>
const typename Map::mapped_type::element_type& Model::planned_once(Map& map, const typename Map::key_type& key, const Make& make) const {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = map.find(key); found != map.end()) return *found->second;
  }
  auto made = make();
  const std::lock_guard lock(mutex_);
  return *map.try_emplace(key, std::move(made)).first->second;  // whoever was first stays
}

Executable Model::prepare(Program program, const WeightResolver& resolve, int64_t budget) const {
  std::vector<ResolvedWeight> weights = resolve_weights(program, resolve);
  if (integer()) {
    Arena arrays = convert_arrays(program, weights);
    const std::lock_guard lock(mutex_);
    integer_arrays_.push_back(std::move(arrays));
  }
  const uint64_t hash = options_.plans.empty() ? 0 : program_hash(program);
  for (const Plan& plan : options_.plans) {
    if (plan.program != hash) continue;
    if (plan.contexts < options_.threads) {
      fail(ErrorKind::kValue, "the plan of program ", program.name, " was made for ", plan.contexts, " threads, not for ", options_.threads);
    }
    return make_executable(std::move(program), std::move(weights), plan);
  }
  Plan plan;
  try {
    plan = make_plan(program, options_.spec, budget > 0 ? budget : options_.budget);
  } catch (const Error& error) {
    if (budget == 0 || error.kind() != ErrorKind::kMemory) throw;
    plan = make_plan(program, options_.spec, options_.budget);
  }
  plan.budget = options_.budget;
  return make_executable(std::move(program), std::move(weights), std::move(plan));
}

void Model::add_ddr_ranges(std::vector<DdrRange>& ranges) const {
  ranges.push_back({weights_->data(), weights_->bytes(), false});
  if (vrc_) ranges.push_back({vrc_->weights().data(), vrc_->weights().bytes(), true});
  const std::lock_guard lock(mutex_);
  for (const auto& entry : tiles_) ranges.push_back({entry.second->positions.data(), entry.second->positions.bytes(), true});
  for (const Arena& arrays : integer_arrays_) ranges.push_back({arrays.data(), arrays.bytes(), true});
}

const VisionConfig& Model::branch(const std::string& name) const {
  const auto found = config_.vision.find(name);
  if (found != config_.vision.end()) return found->second;
  std::string names;
  for (const auto& entry : config_.vision) names += (names.empty() ? "" : ", ") + entry.first;
  fail(ErrorKind::kValue, "branch '", name, "' is unknown; this checkpoint has: ", names);
}

ImageLayout Model::layout(int32_t height, int32_t width, double scale) const {
  return layout_image(config_, patch_size(), height, width, scale);
}

const Executable& Model::text_layers(int32_t context_length, int32_t max_rows) const {
  if (context_length < 1 || context_length > config_.text.max_position_embeddings) {
    fail(ErrorKind::kValue, "context_length must lie in 1 .. ", config_.text.max_position_embeddings, " (max_position_embeddings), got ", context_length);
  }
  return planned_once(text_layers_, {context_length, max_rows}, [&] {
    return std::make_unique<Executable>(
        prepare(qwen3_layers_program(config_.text, *weights_, max_rows, context_length, options_.activation_bits, options_.kv_bits),
                [this](const std::string& name) { return resolve(name); }));
  });
}

const TileExecutables& Model::tile(const std::string& name, int32_t height, int32_t width) const {
  constexpr int32_t kMostSide = 8192;
  const int32_t side = config_.tiling.tile_size, unit = branch(name).patch_size * config_.tiling.pixel_shuffle;
  const auto fits = [&](int32_t n) { return 0 < n && n <= kMostSide && n % unit == 0; };
  if (!fits(height) || !fits(width)) {
    fail(ErrorKind::kValue, "a tile of ", height, " x ", width, " pixels: expected multiples of ", unit, " up to ", kMostSide);
  }
  const TileExecutables* full = height < side || width < side ? &tile(name, side, side) : nullptr;
  return planned_once(tiles_, {name, height, width}, [&] { return plan_tile(name, height, width, full); });
}

std::unique_ptr<TileExecutables> Model::plan_tile(const std::string& name, int32_t height, int32_t width, const TileExecutables* full) const {
  const VisionConfig& vision = branch(name);
  const int32_t grid_h = height / vision.patch_size, grid_w = width / vision.patch_size;
  const int32_t stored = vision.image_size / vision.patch_size;
  auto made = std::make_unique<TileExecutables>();
  const std::vector<float> positions = position_rows(
      vision, weights_->floats("model.vision_tower." + name + ".embeddings.position_embedding.weight", int64_t(stored) * stored * vision.hidden_size),
      std::max({config_.tiling.tile_size / vision.patch_size, grid_h, grid_w}), grid_h, grid_w, config_.tiling.interpolate_edge_positions);
  made->positions = Arena(positions.size() * sizeof(float));
  std::memcpy(made->positions.data(), positions.data(), made->positions.bytes());
  const Arena& rows = made->positions;
  made->tower = prepare(siglip2_tile_program(vision, *weights_, name, grid_h, grid_w, pixel_table_.scale, options_.activation_bits,
                                             integer() ? 8 : options_.activation_bits),
                        [&](const std::string& weight) {
                          if (weight != kPositionRows) return resolve(weight);
                          ResolvedWeight w;
                          w.data = rows.data();
                          w.bytes = rows.bytes();
                          return w;
                        },
                        full ? full->tower.plan.peak_bytes : 0);
  made->projector = prepare(projector_program(config_, *weights_, name, grid_h, grid_w, options_.activation_bits),
                            [this](const std::string& weight) { return resolve(weight); }, full ? full->projector.plan.peak_bytes : 0);
  return made;
}

}  // namespace hvl

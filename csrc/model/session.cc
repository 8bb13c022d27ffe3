#include "csrc/model/session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "csrc/base/cpu_info.h"
#include "csrc/base/error.h"
#include "csrc/model/integer_arrays.h"

namespace hvl {

static_assert(kMostDraft < kHeadRows);

namespace {

class Timer {
 public:
  explicit Timer(double& total_ms) : total_ms_(total_ms), start_(std::chrono::steady_clock::now()) {}
  ~Timer() { total_ms_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double& total_ms_;
  std::chrono::steady_clock::time_point start_;
};

void bind(RunArgs& args, const Executable& executable, const char* name, const void* memory) {
  const BufferId id = executable.program.find(name);
  args.bound[id] = const_cast<void*>(memory);
}

}  // namespace

Session::Session(std::shared_ptr<const Model> model, int32_t context_length)
    : model_(std::move(model)),
      context_length_(context_length),
      pool_(model_->options().threads, model_->options().cpus),
      executor_(kernel_table(selected_isa(), model_->options().arithmetic), pool_),
      remote_(model_->options().remote.any()
                  ? std::make_unique<RemoteDevice>(model_->options().remote, model_->options().threads, model_->options().budget)
                  : nullptr),
      resizer_(kernel_table(selected_isa()), pool_),
      prefill_layers_(model_->text_layers(context_length, kPrefillChunk)),
      decode_layers_(model_->text_layers(context_length, 1)),
      sampler_(model_->config().text.vocab_size, kernel_table(selected_isa()), pool_),
      memory_(*model_, context_length) {
  history_.reserve(context_length);
  if (model_->vrc()) vrc_pooled_.resize(model_->vrc()->pooled_size());
}

std::vector<std::pair<const Executable*, std::vector<TraceEvent>>> Session::take_trace() {
  tracing_ = false;
  return std::exchange(trace_, {});
}

void Session::truncate(int32_t length) {
  if (length < 0 || length > length_) fail(ErrorKind::kValue, "truncate: length must lie in 0 .. ", length_, ", got ", length);
  length_ = length;
  history_.resize(length);
  has_logits_ = false;
}

// Whether the session was told to stop, or the interpreter was, which is asked now and then.
struct Session::Watch {
  Session& session;
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();

  CancelCheck check() { return {[](void* context) { return static_cast<Watch*>(context)->stops(); }, this}; }

 private:
  bool stops() {
    if (session.cancel_.load(std::memory_order_relaxed)) return true;
    if (!session.interrupt_check_) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now - last < std::chrono::milliseconds(20)) return false;
    last = now;
    return session.interrupt_check_();
  }
};

void Session::run(const Executable& executable, const RunArgs& args) {
  Watch watch{*this};
  const CancelCheck check = watch.check();
  std::vector<DdrRange> unreadable;
  RunWatch watched;
  watched.transfers = &transfers_;
  watched.eager_transfers = eager_transfers_;
  if (tracing_) watched.trace = &trace_.emplace_back(&executable, std::vector<TraceEvent>()).second;
  if (remote_) {
    const bool completed = remote_->run(executable, args, check, eager_transfers_, transfers_);
    memory_.plan_elsewhere(executable.plan, remote_->fast_peak());
    return completed ? void() : cancelled();
  }
  const RunMemory memory = memory_.prepare(executable.plan);
  if (protect_ddr_) {
    unreadable = memory_.ddr_ranges();
    model_->add_ddr_ranges(unreadable);
    unreadable.push_back({resized_.data(), resized_.size(), true});
    unreadable.push_back({vrc_rgb_.data(), vrc_rgb_.size(), true});
    watched.unreadable = &unreadable;
  }
  if (!executor_.run(executable, args, memory, check, watched)) cancelled();
}

void Session::cancelled() {
  cancel_.store(false);
  fail(ErrorKind::kCancelled, "cancelled");
}

double Session::vrc_scale(const ImageView& image) {
  cancel_.store(false);
  layout_image(model_->config(), model_->patch_size(), image.height, image.width, 1.0);  // checks the size
  const Vrc* vrc = model_->vrc();
  if (!vrc) return 1.0;
  const Timer timer(stats_.vrc_ms);
  const int32_t side = model_->config().vrc->image_size;
  resize(image, side, side, vrc_rgb_);
  vrc->set_size_features(image.height, image.width, vrc_pooled_.data());
  alignas(64) uint8_t index[kVrcLanes] = {};
  RunArgs args;
  bind(args, vrc->executable(), "rgb", vrc_rgb_.data());
  bind(args, vrc->executable(), "pooled", vrc_pooled_.data());
  bind(args, vrc->executable(), "index", index);
  run(vrc->executable(), args);
  return vrc->scale(index[0]);
}

// On the device, if it has room for pictures that large: the bits are the same.
void Session::resize(const ImageView& image, int32_t height, int32_t width, std::vector<uint8_t>& out) {
  const Resizing how = resizing_to(image, height, width, model_->config().preprocessor.bicubic);
  out.resize(size_t(how.out_bytes()));
  const bool changes = height != image.height || width != image.width;
  Watch watch{*this};
  const CancelCheck check = watch.check();
  Resized resized = Resized::kNoRoom;
  if (remote_ && changes) resized = remote_->resize(image.rgb, how, out.data(), check);
  if (resized == Resized::kNoRoom) resized = resizer_.resize(image.rgb, how, out.data(), check);
  if (resized == Resized::kNoRoom) fail(ErrorKind::kMemory, "no memory for resizing an image of ", image.height, " x ", image.width);
  if (resized == Resized::kCancelled) cancelled();
}

void Session::prepare(const ImageInput& input, const ImageLayout& layout) {
  const Timer timer(stats_.preprocess_ms);
  resize(input.image, layout.resized_height, layout.resized_width, resized_);
  if (layout.thumbnail) {
    resize({resized_.data(), layout.resized_height, layout.resized_width}, layout.thumbnail_height, layout.thumbnail_width, thumbnail_);
  }
}

std::vector<float> Session::pixel_values(const ImageView& image, double scale, ImageLayout& layout) {
  cancel_.store(false);
  layout = model_->layout(image.height, image.width, scale);
  prepare({image, scale}, layout);
  const PixelTable& table = model_->pixel_table();
  const size_t plane = size_t(layout.padded_height) * layout.padded_width;
  std::vector<float> out(3 * plane);
  for (int c = 0; c < 3; ++c) {
    for (int32_t y = 0; y < layout.padded_height; ++y) {
      for (int32_t x = 0; x < layout.padded_width; ++x) {
        const bool inside = y < layout.resized_height && x < layout.resized_width;
        const int entry = inside ? resized_[(size_t(y) * layout.resized_width + x) * 3 + c] : 256;
        out[c * plane + size_t(y) * layout.padded_width + x] = float(table.entries[c * 257 + entry]) * table.scale;
      }
    }
  }
  return out;
}

void Session::run_tower(const Tile& tile, const TileExecutables& executables) {
  const Timer timer(stats_.encode_ms);
  RunArgs args;
  const bool thumb = tile.thumbnail;
  args.tile_top = tile.top;
  args.tile_left = tile.left;
  args.image_height = image_size_[thumb].first;
  args.image_width = image_size_[thumb].second;
  bind(args, executables.tower, "image", thumb ? thumbnail_.data() : resized_.data());
  bind(args, executables.tower, "pixel_table", model_->pixel_table().entries.data());
  bind(args, executables.tower, "features", memory_.features());
  run(executables.tower, args);
  ++stats_.tiles;
}

void Session::run_projector(const TileExecutables& executables, float* image_embeds) {
  const Timer timer(stats_.project_ms);
  RunArgs args;
  bind(args, executables.projector, "features", memory_.features());
  bind(args, executables.projector, "image_embeds", image_embeds);
  run(executables.projector, args);
}

// Image embeddings of a prompt's images in token order, a row at a time; tiles are encoded when their first row is asked for.
class Session::ImageStream {
 public:
  ImageStream(Session& session, const std::vector<ImageInput>& images, const std::vector<ImageLayout>& layouts, const std::string& branch)
      : session_(session), images_(images), layouts_(layouts), branch_(branch) {}

  const float* next() {
    while (row_ == rows_) load();
    return memory_ + size_t(row_++) * session_.model().config().text.hidden_size;
  }

 private:
  void load() {
    const ModelConfig& config = session_.model().config();
    const int32_t unit = session_.model().patch_size() * config.tiling.pixel_shuffle;
    if (image_ < 0 || tile_ == layouts_[image_].tiles.size()) {
      ++image_;
      tile_ = 0;
      session_.image_size_[0] = {layouts_[image_].resized_height, layouts_[image_].resized_width};
      session_.image_size_[1] = {layouts_[image_].thumbnail_height, layouts_[image_].thumbnail_width};
      session_.prepare(images_[image_], layouts_[image_]);
      session_.stats_.visual_tokens += layouts_[image_].visual_tokens;
    }
    const ImageLayout& layout = layouts_[image_];
    row_ = 0;
    if (config.tiling.raster_order) {
      load_raster(layout, unit);
      return;
    }
    const Tile& tile = layout.tiles[tile_++];
    encode(tile, session_.memory_.embeds());
    memory_ = session_.memory_.embeds();
    rows_ = tile.height / unit * (tile.width / unit);
  }

  void encode(const Tile& tile, float* image_embeds) {
    const TileExecutables& executables = session_.model().tile(branch_, tile.height, tile.width);
    session_.run_tower(tile, executables);
    session_.run_projector(executables, image_embeds);
  }

  // Row-major over the whole image: every tile must be there first, so this order keeps all embeddings of the image.
  void load_raster(const ImageLayout& layout, int32_t unit) {
    const size_t hidden = session_.model().config().text.hidden_size;
    const int32_t image_cols = layout.padded_width / unit;
    raster_.resize(size_t(layout.visual_tokens) * hidden);
    const Tile* thumbnail = nullptr;
    for (const Tile& tile : layout.tiles) {
      if (tile.thumbnail) thumbnail = &tile;
    }
    const int32_t thumbnail_tokens = thumbnail ? thumbnail->height / unit * (thumbnail->width / unit) : 0;
    const bool first = session_.model().config().tiling.thumbnail_first;
    float* const image_rows = raster_.data() + (first ? thumbnail_tokens * hidden : 0);
    for (const Tile& tile : layout.tiles) {
      encode(tile, session_.memory_.embeds());
      const int32_t h = tile.height / unit, w = tile.width / unit;
      for (int32_t y = 0; y < h; ++y) {
        float* to = tile.thumbnail ? (first ? raster_.data() : raster_.data() + (size_t(layout.visual_tokens) - thumbnail_tokens) * hidden) + size_t(y) * w * hidden
                                   : image_rows + (size_t(tile.top / unit + y) * image_cols + tile.left / unit) * hidden;
        std::copy_n(session_.memory_.embeds() + size_t(y) * w * hidden, w * hidden, to);
      }
    }
    tile_ = layout.tiles.size();
    memory_ = raster_.data();
    rows_ = layout.visual_tokens;
  }

  Session& session_;
  const std::vector<ImageInput>& images_;
  const std::vector<ImageLayout>& layouts_;
  const std::string& branch_;
  int32_t image_ = -1;
  size_t tile_ = 0;
  const float* memory_ = nullptr;
  int32_t row_ = 0, rows_ = 0;
  std::vector<float> raster_;
};

std::vector<float> Session::encode(const ImageInput& input, const std::string& branch) {
  cancel_.store(false);
  model_->branch(branch);
  const std::vector<ImageInput> images = {input};
  const std::vector<ImageLayout> layouts = {model_->layout(input.image.height, input.image.width, input.scale)};
  const size_t hidden = model_->config().text.hidden_size;
  std::vector<float> out(layouts[0].visual_tokens * hidden);
  ImageStream stream(*this, images, layouts, branch);
  for (int32_t t = 0; t < layouts[0].visual_tokens; ++t) std::copy_n(stream.next(), hidden, out.data() + t * hidden);
  if (model_->integer()) activations_to_floats(out.data(), out.size());
  return out;
}

std::vector<std::vector<float>> Session::encode_tower(const ImageInput& input, const std::string& branch) {
  cancel_.store(false);
  const VisionConfig& vision = model_->branch(branch);
  const ImageLayout layout = model_->layout(input.image.height, input.image.width, input.scale);
  image_size_[0] = {layout.resized_height, layout.resized_width};
  image_size_[1] = {layout.thumbnail_height, layout.thumbnail_width};
  prepare(input, layout);
  std::vector<std::vector<float>> out;
  for (const Tile& tile : layout.tiles) {
    run_tower(tile, model_->tile(branch, tile.height, tile.width));
    const size_t patches = size_t(tile.height / vision.patch_size) * (tile.width / vision.patch_size);
    out.emplace_back(memory_.features(), memory_.features() + patches * vision.hidden_size);
    if (model_->integer()) activations_to_floats(out.back().data(), out.back().size());
  }
  return out;
}

void Session::check_tokens(const int32_t* ids, int32_t count, const std::vector<ImageLayout>& layouts) const {
  const ModelConfig& config = model_->config();
  if (count < 1) fail(ErrorKind::kValue, "prefill needs at least one token");
  if (count > context_length_ - length_) {
    fail(ErrorKind::kValue, "the prompt has ", count, " tokens, but only ", context_length_ - length_, " of the context of ", context_length_,
         " are free; shorten it, lower the image's scale or load with a larger context_length");
  }
  int64_t placeholders = 0, features = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= config.text.vocab_size) {
      fail(ErrorKind::kValue, "token id ", ids[i], " at position ", i, " is outside the vocabulary of ", config.text.vocab_size);
    }
    placeholders += ids[i] == config.image_token_id;
  }
  for (const ImageLayout& layout : layouts) features += layout.visual_tokens;
  if (placeholders != features) {
    fail(ErrorKind::kValue, "the prompt has ", placeholders, " image tokens but its ", layouts.size(), " image(s) give ", features, " features");
  }
}

void Session::run_chunk(int32_t rows, int32_t position) {
  const Executable& layers = rows == 1 ? decode_layers_ : prefill_layers_;
  memory_.rotate_to(position + rows);
  RunArgs args;
  args.run = {rows, position};
  args.states = memory_.caches().data();
  bind(args, layers, "ids", memory_.ids());
  bind(args, layers, "hidden", memory_.hidden());
  bind(args, layers, "cos", memory_.cos());
  bind(args, layers, "sin", memory_.sin());
  run(layers, args);
}

void Session::run_head(const float* hidden, int32_t rows) {
  const Executable& head = model_->text_head();
  RunArgs args;
  args.run.rows = rows;
  bind(args, head, "hidden", hidden);
  bind(args, head, "logits", memory_.logits());
  run(head, args);
  if (!model_->integer()) return;
  const int64_t vocab = model_->config().text.vocab_size;
  pool_.parallel_for(rows, [&](int32_t begin, int32_t end) { activations_to_floats(memory_.logits() + begin * vocab, size_t((end - begin) * vocab)); });
}

void Session::prefill(const int32_t* ids, int32_t count, const std::vector<ImageInput>& images, const std::string& branch,
                      const LogitsSink& on_logits) {
  cancel_.store(false);
  if (!images.empty()) model_->branch(branch);
  std::vector<ImageLayout> layouts;
  for (const ImageInput& input : images) layouts.push_back(model_->layout(input.image.height, input.image.width, input.scale));
  check_tokens(ids, count, layouts);

  const size_t hidden = model_->config().text.hidden_size;
  const int32_t image_token = model_->config().image_token_id;
  ImageStream stream(*this, images, layouts, branch);
  has_logits_ = false;
  for (int32_t done = 0; done < count;) {
    const int32_t rows = std::min(kPrefillChunk, count - done);
    for (int32_t r = 0; r < rows; ++r) {
      const bool image = ids[done + r] == image_token;
      memory_.ids()[r] = image ? -1 : ids[done + r];
      if (image) std::copy_n(stream.next(), hidden, memory_.hidden() + r * hidden);
    }
    const Timer timer(stats_.prefill_ms);
    run_chunk(rows, length_ + done);
    if (on_logits) {
      for (int32_t r = 0; r < rows; r += kHeadRows) {
        const int32_t n = std::min(kHeadRows, rows - r);
        run_head(memory_.hidden() + r * hidden, n);
        on_logits(done + r, n, memory_.logits());
      }
    }
    done += rows;
    if (done == count) run_head(memory_.hidden() + (rows - 1) * hidden, 1);
  }
  for (int32_t i = 0; i < count; ++i) history_.push_back(ids[i] == image_token ? -1 : ids[i]);
  length_ += count;
  has_logits_ = true;
  logits_row_ = 0;
  lookup_.restart();
  stats_.prefill_tokens += count;
}

void Session::check_token(int32_t token) const {
  if (token < 0 || token >= model_->config().text.vocab_size) {
    fail(ErrorKind::kValue, "token id ", token, " is outside the vocabulary of ", model_->config().text.vocab_size);
  }
  if (length_ >= context_length_) fail(ErrorKind::kValue, "the context of ", context_length_, " tokens is full");
}

// Decodes ids()[0 .. rows - 1] behind what the cache holds, and computes the logits of each.
void Session::run_tokens(int32_t rows) {
  model_->weights().settle();
  const Timer timer(stats_.decode_ms);
  if (rows > 1) has_logits_ = false;  // of several rows some may be written when it is cancelled
  run_chunk(rows, length_);
  run_head(memory_.hidden(), rows);
  has_logits_ = true;
}

void Session::decode(int32_t token) {
  cancel_.store(false);
  check_token(token);
  memory_.ids()[0] = token;
  run_tokens(1);
  history_.push_back(token);
  ++length_;
  logits_row_ = 0;
  ++stats_.decode_tokens;
}

std::vector<SampledToken> Session::speculate(int32_t token, int32_t most, const SamplingParams& params) {
  cancel_.store(false);
  check_token(token);
  check_sampling(params);
  if (most < 1) fail(ErrorKind::kValue, "speculate: expected room for at least one token, got ", most);
  struct Trim {  // on every way out the history is what the cache holds
    Session& session;
    ~Trim() { session.history_.resize(size_t(session.length_)); }
  } trim{*this};
  history_.push_back(token);
  const std::span<const int32_t> draft = lookup_.draft(history_, std::min(most, context_length_ - length_) - 1);
  const auto rows = int32_t(draft.size()) + 1;
  memory_.ids()[0] = token;
  std::copy(draft.begin(), draft.end(), memory_.ids() + 1);
  const double before_ms = stats_.decode_ms;
  run_tokens(rows);

  std::vector<SampledToken> out;
  for (logits_row_ = 0;; ++logits_row_) {
    out.push_back(sample(params));
    if (logits_row_ + 1 == rows || out.back().id != draft[size_t(logits_row_)]) break;
    history_.push_back(out.back().id);
  }
  lookup_.ran(logits_row_, (stats_.decode_ms - before_ms) / 1e3);
  length_ += logits_row_ + 1;
  stats_.decode_tokens += logits_row_ + 1;
  stats_.drafted_tokens += rows - 1;
  stats_.accepted_tokens += logits_row_;
  return out;
}

const float* Session::last_logits() const {
  if (!has_logits_) fail(ErrorKind::kValue, "no logits yet: call prefill first");
  return memory_.logits() + size_t(logits_row_) * model_->config().text.vocab_size;
}

SampledToken Session::sample(const SamplingParams& params) {
  return sampler_.sample(last_logits(), history_, params);
}

}  // namespace hvl

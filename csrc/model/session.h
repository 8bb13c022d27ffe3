// One caller's conversation with a Model: KV cache, arena, random state. Not thread-safe, except cancel().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/base/thread_pool.h"
#include "csrc/model/lookup.h"
#include "csrc/model/model.h"
#include "csrc/model/sampler.h"
#include "csrc/model/session_memory.h"
#include "csrc/runtime/executor.h"

namespace hvl {

struct SessionStats {
  double vrc_ms = 0, preprocess_ms = 0, encode_ms = 0, project_ms = 0, prefill_ms = 0, decode_ms = 0;
  int64_t tiles = 0, visual_tokens = 0, prefill_tokens = 0, decode_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // by speculation
};

// An image for a prompt: pixels and the scale at which they are encoded.
struct ImageInput {
  ImageView image;
  double scale;
};

class Session {
 public:
  // Everything that runs is sized here: decode and the encoding of tiles allocate nothing.
  Session(std::shared_ptr<const Model> model, int32_t context_length);

  int32_t length() const { return length_; }
  int32_t context_length() const { return context_length_; }
  const Model& model() const { return *model_; }
  void truncate(int32_t length);

  // Stops the running call with Error(kCancelled) before the next layer, or strip of a picture that is resized.
  void cancel() { cancel_.store(true); }
  // Asked now and then while a call runs; true: stop. For the host's own signals.
  void set_interrupt_check(std::function<bool()> check) { interrupt_check_ = std::move(check); }

  double vrc_scale(const ImageView& image);
  // (3, padded height, padded width) of the resized, normalised, padded image.
  std::vector<float> pixel_values(const ImageView& image, double scale, ImageLayout& layout);
  // (visual tokens, text hidden) in token order.
  std::vector<float> encode(const ImageInput& image, const std::string& branch);
  // The tower's output of each tile: (patches, vision hidden).
  std::vector<std::vector<float>> encode_tower(const ImageInput& image, const std::string& branch);

  // Appends tokens; placeholders take the images' embeddings, tile by tile, as they are encoded. `on_logits`, when given, gets
  // the logits of every position, a few rows at a time: (first row, rows, logits (rows, vocab)). On an error nothing is appended.
  using LogitsSink = std::function<void(int32_t first, int32_t rows, const float* logits)>;
  void prefill(const int32_t* ids, int32_t count, const std::vector<ImageInput>& images, const std::string& branch,
               const LogitsSink& on_logits = nullptr);
  void decode(int32_t token);
  // Appends `token`, and with it in one run what csrc/model/lookup.h guesses to follow. Returns 1 .. most tokens: the very ones that as many
  // calls of decode and sample, in turn, would have given (their KV cache, logits and random state too). The last is not appended yet.
  std::vector<SampledToken> speculate(int32_t token, int32_t most, const SamplingParams& params);

  const float* last_logits() const;  // (vocab); Error(kValue) before the first prefill
  SampledToken sample(const SamplingParams& params);
  void seed(uint64_t seed) { sampler_.seed(seed); }

  const SessionStats& stats() const { return stats_; }
  void reset_stats() {
    stats_ = {};
    transfers_ = {};
    if (remote_) remote_->reset_counts();
  }
  const SessionMemory& memory() const { return memory_; }
  int64_t parallel_jobs() const { return pool_.jobs(); }  // kernel steps that several threads shared, since the session was made
  size_t image_bytes() const { return resized_.capacity() + thumbnail_.capacity(); }  // resized pixels
  const TransferStats& transfers() const { return transfers_; }
  const RemoteDevice* remote() const { return remote_.get(); }  // null where programs run in this process

  // From now on every kernel step and transfer is timed; `take_trace` hands over what was run since: (what ran, its events).
  void start_trace() { tracing_ = true; }
  std::vector<std::pair<const Executable*, std::vector<TraceEvent>>> take_trace();

  // For tests: speculate guesses whenever it can.
  void speculate_always(bool on) { lookup_.always(on); }
  // For tests of device "cpu-staged": when transfers are executed (csrc/runtime/transfers.h); kernels that touch DDR fault.
  void set_eager_transfers(bool eager) { eager_transfers_ = eager; }
  void protect_ddr(bool protect) { protect_ddr_ = protect; }

 private:
  class ImageStream;
  struct Watch;

  void resize(const ImageView& image, int32_t height, int32_t width, std::vector<uint8_t>& out);
  void prepare(const ImageInput& input, const ImageLayout& layout);
  void run_tower(const Tile& tile, const TileExecutables& executables);
  void run_projector(const TileExecutables& executables, float* image_embeds);
  void run_chunk(int32_t rows, int32_t position);
  void run_head(const float* hidden, int32_t rows);
  void run_tokens(int32_t rows);
  void run(const Executable& executable, const RunArgs& args);
  [[noreturn]] void cancelled();
  void check_tokens(const int32_t* ids, int32_t count, const std::vector<ImageLayout>& layouts) const;
  void check_token(int32_t token) const;

  const std::shared_ptr<const Model> model_;
  const int32_t context_length_;
  ThreadPool pool_;
  Executor executor_;
  std::unique_ptr<RemoteDevice> remote_;  // instead of executor_
  Resizer resizer_;
  const Executable& prefill_layers_;
  const Executable& decode_layers_;
  Sampler sampler_;
  SessionMemory memory_;

  std::pair<int32_t, int32_t> image_size_[2];  // (height, width) of resized_ and thumbnail_
  std::vector<uint8_t> resized_, thumbnail_, vrc_rgb_, vrc_pooled_;
  std::vector<int32_t> history_;  // ids in the cache; -1 for image embeddings
  Lookup lookup_;
  int32_t length_ = 0;
  bool has_logits_ = false;
  int32_t logits_row_ = 0;  // the last position's
  SessionStats stats_;
  TransferStats transfers_;
  bool tracing_ = false, eager_transfers_ = false, protect_ddr_ = false;
  std::vector<std::pair<const Executable*, std::vector<TraceEvent>>> trace_;
  std::atomic<bool> cancel_{false};
  std::function<bool()> interrupt_check_;
};

}  // namespace hvl

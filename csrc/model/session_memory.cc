#include "csrc/model/session_memory.h"

#include <algorithm>
#include <cmath>

#include "csrc/model/integer_arrays.h"

namespace hvl {
namespace {


size_t align(size_t n) { return (n + 127) / 128 * 128; }

}  // namespace

SessionMemory::SessionMemory(const Model& model, int32_t context_length) : integer_(model.integer()) {
  const ModelConfig& config = model.config();
  const TextConfig& text = config.text;
  size_t features = 0, embeds = 0;
  int64_t ddr = 0;
  const auto planned = [&](const Executable& executable) { ddr = std::max(ddr, executable.plan.ddr_bytes); };
  const int32_t tile = config.tiling.tile_size, unit = model.patch_size() * config.tiling.pixel_shuffle;
  for (const auto& [name, vision] : config.vision) {
    const TileExecutables& full = model.tile(name, tile, tile);
    planned(full.tower);
    planned(full.projector);
    const size_t grid = tile / vision.patch_size;
    features = std::max(features, grid * grid * vision.hidden_size);
    embeds = std::max(embeds, size_t(tile / unit) * (tile / unit) * text.hidden_size);
  }
  planned(model.text_layers(context_length, kPrefillChunk));
  planned(model.text_layers(context_length, 1));
  planned(model.text_head());
  if (model.vrc()) planned(model.vrc()->executable());
  fast_ = Arena(size_t(model.options().budget));
  ddr_ = Arena(size_t(ddr));

  const size_t sizes[] = {align(features * 4), align(embeds * 4), align(size_t(kPrefillChunk) * text.hidden_size * 4),
                          align(size_t(kHeadRows) * text.vocab_size * 4), align(kPrefillChunk * 4)};
  size_t total = 0, at = 0;
  for (size_t b : sizes) total += b;
  blocks_ = Arena(total);
  uint8_t* starts[5];
  for (int i = 0; i < 5; at += sizes[i++]) starts[i] = blocks_.data() + at;
  features_ = reinterpret_cast<float*>(starts[0]);
  embeds_ = reinterpret_cast<float*>(starts[1]);
  hidden_ = reinterpret_cast<float*>(starts[2]);
  logits_ = reinterpret_cast<float*>(starts[3]);
  ids_ = reinterpret_cast<int32_t*>(starts[4]);

  const int32_t capacity = kv_padded_keys(context_length), bits = model.options().kv_bits;
  const auto side = size_t(kv_side_bytes(text.num_key_value_heads, text.head_dim, capacity, bits));
  kv_ = Arena(2 * side * text.num_hidden_layers);
  for (int32_t l = 0; l < text.num_hidden_layers; ++l) {
    uint8_t* k = kv_.data() + 2 * side * l;
    caches_.push_back({k, k + side, text.num_key_value_heads, text.head_dim, capacity, bits});
  }

  const int32_t half = text.head_dim / 2;
  rope_ = Arena(2 * size_t(context_length) * half * sizeof(float));
  for (int32_t i = 0; i < half; ++i) frequencies_.push_back(std::pow(text.rope_theta, -2.0 * i / text.head_dim));
}

void SessionMemory::rotate_to(int32_t end) {
  const size_t half = frequencies_.size(), angles = rope_.bytes() / 8;
  const auto set = [this](size_t at, double value) {
    if (integer_) {
      reinterpret_cast<int32_t*>(rope_.data())[at] = rotation_word(value);
    } else {
      reinterpret_cast<float*>(rope_.data())[at] = float(value);
    }
  };
  for (; rotated_ < end; ++rotated_) {
    for (size_t i = 0; i < half; ++i) {
      set(rotated_ * half + i, std::cos(rotated_ * frequencies_[i]));
      set(angles + rotated_ * half + i, std::sin(rotated_ * frequencies_[i]));
    }
  }
}

RunMemory SessionMemory::prepare(const Plan& plan) {
  planned_peak_ = std::max(planned_peak_, plan.peak_bytes);
  touched_.expect(fast_.data(), std::min(budget(), planned_peak_));
  if (plan.ddr_bytes > ddr_bytes()) ddr_ = Arena(size_t(plan.ddr_bytes));
  return {fast_.data(), ddr_.data()};
}

int64_t SessionMemory::measured_peak() const { return std::max(peak_elsewhere_, touched_.measure(fast_.data(), budget())); }

std::vector<DdrRange> SessionMemory::ddr_ranges() const {
  std::vector<DdrRange> out;
  for (const Arena* a : {&ddr_, &blocks_, &kv_, &rope_}) out.push_back({a->data(), a->bytes(), true});
  return out;
}

}  // namespace hvl

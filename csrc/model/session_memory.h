// The memory of a session: the fast arena of exactly the budget, the DDR arena, and the blocks that programs hand on to each other. Where it
// says float, the integer arithmetic has int32.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/base/arena.h"
#include "csrc/model/model.h"
#include "csrc/runtime/executor.h"
#include "csrc/runtime/watermark.h"

namespace hvl {

class SessionMemory {
 public:
  // Sized for all programs of full tiles, and for the text model.
  SessionMemory(const Model& model, int32_t context_length);

  // Has the rotations of positions 0 .. end - 1 ready. A long context's would take longer to compute than everything else of a session.
  void rotate_to(int32_t end);

  // What a run of this plan needs is there afterwards (a tile at an image's edge may need more DDR than a full one; nothing else grows).
  RunMemory prepare(const Plan& plan);

  // Of a plan that runs on another device: its peak, and the one that was measured there, are noted.
  void plan_elsewhere(const Plan& plan, int64_t measured_peak) {
    planned_peak_ = std::max(planned_peak_, plan.peak_bytes);
    peak_elsewhere_ = std::max(peak_elsewhere_, measured_peak);
  }

  float* features() const { return features_; }  // (patches of a tile, vision hidden)
  float* embeds() const { return embeds_; }      // (tokens of a tile, text hidden)
  float* hidden() const { return hidden_; }      // (kPrefillChunk, text hidden)
  float* logits() const { return logits_; }      // (kHeadRows, vocab)
  int32_t* ids() const { return ids_; }          // (kPrefillChunk)
  const Arena& kv() const { return kv_; }
  const std::vector<KvCache>& caches() const { return caches_; }  // a layer
  const float* cos() const { return reinterpret_cast<const float*>(rope_.data()); }  // (context, head_dim / 2)
  const float* sin() const { return cos() + rope_.bytes() / 8; }

  int64_t budget() const { return int64_t(fast_.bytes()); }
  int64_t planned_peak() const { return planned_peak_; }   // the highest of all plans that were prepared
  int64_t measured_peak() const;                           // the highest byte of fast memory that any run has written; rounded up to 128
  int64_t ddr_bytes() const { return int64_t(ddr_.bytes()); }
  int64_t block_bytes() const { return int64_t(blocks_.bytes()); }
  std::vector<DdrRange> ddr_ranges() const;

 private:
  Arena fast_, ddr_, blocks_, kv_, rope_;
  int64_t planned_peak_ = 0;
  int64_t peak_elsewhere_ = 0;
  Watermark touched_;  // of fast_
  std::vector<KvCache> caches_;
  const bool integer_;
  std::vector<double> frequencies_;  // radians a position, by pair of dimensions
  int32_t rotated_ = 0;              // positions whose rotations are there
  float *features_, *embeds_, *hidden_, *logits_;
  int32_t* ids_;
};

}  // namespace hvl

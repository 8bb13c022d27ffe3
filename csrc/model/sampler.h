// From logits to the next token: greedy, or temperature / top-k / top-p / min-p with a seed; repetition penalty; log-probabilities.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "csrc/base/thread_pool.h"
#include "kernels/registry.h"

namespace hvl {

struct SamplingParams {
  double temperature = 0.0;         // 0: greedy
  int32_t top_k = 0;                // 0: all
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;  // as in transformers: positive logits of seen ids are divided by it, negative multiplied
  int32_t logprobs = 0;             // how many of the best to report
  int32_t vocab_size = 0;           // ids from there on are never sampled; 0: all may be
};

void check_sampling(const SamplingParams& params);  // Error(kValue) for what is out of range

struct SampledToken {
  int32_t id;
  double logprob;                                      // of the penalised distribution at temperature 1, before any filter
  std::vector<std::pair<int32_t, double>> top_logprobs;  // best first
};

// Working memory is sized at construction; sampling allocates only what top_logprobs needs.
class Sampler {
 public:
  Sampler(int32_t vocab_size, const KernelTable& kernels, ThreadPool& pool);
  void seed(uint64_t seed);
  // logits: (vocab) float; history: ids so far. Filters apply in the order temperature, top-k, top-p, min-p.
  // Throws Error(kValue) for parameters out of range.
  SampledToken sample(const float* logits, const std::vector<int32_t>& history, const SamplingParams& params);

 private:
  double uniform();  // [0, 1)
  // The first of the largest, and the logarithm of the sum of all exponentials.
  int32_t best_of(const float* logits, int32_t valid, double* log_total);
  // Ids drawn by `probability_` (valid, relative to the best one's), which sums to `sum`.
  int32_t draw_any(int32_t valid, double sum);
  int32_t draw_filtered(const float* logits, int32_t valid, double sum, const SamplingParams& params);

  const KernelTable& kernels_;
  ThreadPool& pool_;
  uint64_t state_ = 0;
  std::vector<float> logits_;                  // with the penalty
  std::vector<float> chunk_maximum_, chunk_sum_;  // of kernels/exp_sum
  std::vector<int32_t> order_;
  std::vector<double> probability_;
  std::vector<uint8_t> seen_;
};

}  // namespace hvl

#include "csrc/model/sampler.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace hvl {
void check_sampling(const SamplingParams& p) {
  if (!(p.temperature >= 0.0) || std::isinf(p.temperature)) fail(ErrorKind::kValue, "temperature must be 0 or more and finite, got ", p.temperature);
  if (p.top_k < 0) fail(ErrorKind::kValue, "top_k must be 0 (off) or more, got ", p.top_k);
  if (!(p.top_p > 0.0 && p.top_p <= 1.0)) fail(ErrorKind::kValue, "top_p must lie in (0, 1], got ", p.top_p);
  if (!(p.min_p >= 0.0 && p.min_p <= 1.0)) fail(ErrorKind::kValue, "min_p must lie in [0, 1], got ", p.min_p);
  if (!(p.repetition_penalty > 0.0) || std::isinf(p.repetition_penalty)) {
    fail(ErrorKind::kValue, "repetition_penalty must be positive and finite, got ", p.repetition_penalty);
  }
  if (p.logprobs < 0) fail(ErrorKind::kValue, "logprobs must be 0 or more, got ", p.logprobs);
  if (p.vocab_size < 0) fail(ErrorKind::kValue, "vocab_size must be 0 (all ids) or more, got ", p.vocab_size);
}

Sampler::Sampler(int32_t vocab_size, const KernelTable& kernels, ThreadPool& pool)
    : kernels_(kernels),
      pool_(pool),
      logits_(vocab_size),
      chunk_maximum_(exp_sum_units(vocab_size)),
      chunk_sum_(exp_sum_units(vocab_size)),
      order_(vocab_size),
      probability_(vocab_size),
      seen_(vocab_size) {
  seed(0);
}

void Sampler::seed(uint64_t seed) { state_ = seed; }

double Sampler::uniform() {
  // splitmix64
  state_ += 0x9e3779b97f4a7c15ull;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return double(z >> 11) * 0x1.0p-53;
}

int32_t Sampler::best_of(const float* logits, int32_t valid, double* log_total) {
  const ExpSumArgs args{logits, valid, chunk_maximum_.data(), chunk_sum_.data()};
  const int32_t chunks = exp_sum_units(valid);
  pool_.parallel_for(chunks, [&](int32_t begin, int32_t end) { kernels_.exp_sum(args, begin, end); });
  const auto most = std::max_element(chunk_maximum_.begin(), chunk_maximum_.begin() + chunks);
  double total = 0.0;
  for (int32_t c = 0; c < chunks; ++c) total += chunk_sum_[c] * std::exp(double(chunk_maximum_[c]) - *most);
  *log_total = std::log(total) + *most;
  const auto chunk = int32_t(most - chunk_maximum_.begin()), first = chunk * kExpSumChunk;
  const float* end = logits + std::min(valid, first + kExpSumChunk);
  const float* found = std::find(logits + first, end, *most);
  return found == end ? first : int32_t(found - logits);  // NaN equals nothing
}

int32_t Sampler::draw_any(int32_t valid, double sum) {
  double left = uniform() * sum;
  int32_t pick = 0;
  while (pick + 1 < valid && left >= probability_[pick]) left -= probability_[pick++];
  return pick;
}

int32_t Sampler::draw_filtered(const float* l, int32_t valid, double sum, const SamplingParams& p) {
  const auto better = [l](int32_t a, int32_t b) { return l[a] > l[b] || (l[a] == l[b] && a < b); };
  const int32_t limit = p.top_k > 0 ? std::min(p.top_k, valid) : valid;
  // In falling order, as far as the filters reach: sorting all of a large vocabulary takes longer than a decode step.
  int32_t sorted = 0;
  const auto sort_to = [&](int32_t end) {
    std::partial_sort(order_.begin() + sorted, order_.begin() + end, order_.begin() + valid, better);
    sorted = end;
  };
  for (int32_t i = 0; i < valid; ++i) order_[i] = i;
  if (p.top_k > 0) {
    sort_to(limit);
    sum = 0.0;
    for (int32_t i = 0; i < limit; ++i) sum += probability_[order_[i]];
  }
  double reached = 0.0;
  int32_t count = 0;
  while (count < limit && (p.top_p >= 1.0 || reached < p.top_p * sum)) {
    if (count == sorted) sort_to(std::min(limit, std::max(256, sorted * 8)));
    const double weight = probability_[order_[count]];  // the best one's is 1
    if (weight < p.min_p && count > 0) break;
    reached += weight;
    ++count;
  }
  double left = uniform() * reached;
  int32_t pick = 0;
  while (pick + 1 < count && left >= probability_[order_[pick]]) left -= probability_[order_[pick++]];
  return order_[pick];
}

SampledToken Sampler::sample(const float* logits, const std::vector<int32_t>& history, const SamplingParams& p) {
  check_sampling(p);
  const auto vocab = int32_t(logits_.size()), valid = p.vocab_size > 0 ? std::min(p.vocab_size, vocab) : vocab;
  const float* l = logits;
  if (p.repetition_penalty != 1.0) {
    l = logits_.data();
    std::copy_n(logits, valid, logits_.begin());
    for (int32_t id : history) {
      if (id < 0 || id >= valid || seen_[id]) continue;
      seen_[id] = 1;
      logits_[id] = float(logits_[id] > 0 ? logits_[id] / p.repetition_penalty : logits_[id] * p.repetition_penalty);
    }
    for (int32_t id : history) {
      if (id >= 0 && id < valid) seen_[id] = 0;
    }
  }
  const auto better = [l](int32_t a, int32_t b) { return l[a] > l[b] || (l[a] == l[b] && a < b); };
  double log_total = 0.0;
  const int32_t best = best_of(l, valid, &log_total);
  SampledToken token{best, 0.0, {}};

  if (p.temperature > 0.0) {
    double sum = 0.0;
    for (int32_t i = 0; i < valid; ++i) sum += probability_[i] = std::exp((double(l[i]) - l[best]) / p.temperature);
    token.id = p.top_k == 0 && p.top_p >= 1.0 && p.min_p <= 0.0 ? draw_any(valid, sum) : draw_filtered(l, valid, sum, p);
  }
  token.logprob = double(l[token.id]) - log_total;
  if (p.logprobs > 0) {
    const int32_t n = std::min(p.logprobs, valid);
    for (int32_t i = 0; i < valid; ++i) order_[i] = i;
    std::partial_sort(order_.begin(), order_.begin() + n, order_.begin() + valid, better);
    for (int32_t i = 0; i < n; ++i) token.top_logprobs.emplace_back(order_[i], double(l[order_[i]]) - log_total);
  }
  return token;
}

}  // namespace hvl

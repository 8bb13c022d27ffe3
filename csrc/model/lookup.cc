#include "csrc/model/lookup.h"

#include <algorithm>

namespace hvl {
namespace {

constexpr int32_t kShortestMatch = 2;  // single tokens recur everywhere
constexpr int32_t kLongestMatch = 16;
constexpr double kAllowance = 0.015;   // of a plain step, for every token
constexpr double kStart = 0.1;         // so that the first guess does not wait
constexpr double kMostAccount = 4;     // what a text that stops repeating itself may lose again
constexpr double kRowGuess = 0.1;      // cost of one more row, before it was measured
constexpr double kNewTime = 0.2;       // weight of a new measurement
constexpr double kFade = 0.95;         // of earlier trials, for each draft
constexpr double kIdleFade = 0.99;     // and for each token without one: what failed long ago is tried again

// Short, middle and long matches are told apart: the longer, the likelier to go on.
size_t class_of(int32_t match) { return match < 4 ? 0 : match < 8 ? 1 : 2; }

struct Match {
  int32_t length = 0, next = 0;  // place of the token that followed
};

Match longest_match(std::span<const int32_t> text) {
  const auto size = int32_t(text.size());
  Match best{kShortestMatch - 1, 0};
  for (int32_t end = size - 2; end >= best.length && best.length < kLongestMatch; --end) {
    int32_t length = 0;
    while (length <= end && length < kLongestMatch && text[end - length] == text[size - 1 - length] && text[end - length] >= 0) ++length;
    if (length > best.length) best = {length, end + 1};
  }
  return best.length < kShortestMatch ? Match{} : best;
}

}  // namespace

void Lookup::restart() {
  trials_ = {};
  account_ = kStart;
  count_ = 0;
}

double Lookup::cost(int32_t rows) const {
  if (rows == 1) return 1;
  if (seconds_[rows] > 0) return std::max(1.0, seconds_[rows] / seconds_[1]);
  return rows == 2 ? 1 + kRowGuess : cost(rows - 1) + std::max(kRowGuess, cost(2) - 1);
}

// How many tokens to guess when each is right with this chance if those before it are: the most tokens for the time that the account covers.
int32_t Lookup::worth(double chance, int32_t most) const {
  double reached = 1, tokens = 1, best = 1;
  int32_t count = 0;
  if (seconds_[2] == 0) most = 1;  // the first guess says what more rows cost
  for (int32_t n = 1; n <= most; ++n) {
    reached *= chance;
    tokens += reached;
    const double time = cost(n + 1);
    if (time - 1 <= account_ && tokens / time > best) {
      best = tokens / time;
      count = n;
    }
  }
  return count;
}

std::span<const int32_t> Lookup::draft(std::span<const int32_t> text, int32_t most) {
  count_ = 0;
  most = std::min(most, kMostDraft);
  if (most < 1 || (!always_ && (seconds_[1] == 0 || cost(2) - 1 > account_))) return {};
  const Match match = longest_match(text);
  if (match.length == 0) return {};
  class_ = class_of(match.length);
  const Trials& trials = trials_[class_];
  if (!always_) most = worth((trials.right + 1) / (trials.all + 2), most);
  for (; count_ < most; ++count_) {
    // What followed may reach the end of the text, and then goes on with itself.
    const int32_t at = match.next + count_;
    const int32_t token = at < int32_t(text.size()) ? text[at] : draft_[at - int32_t(text.size())];
    if (token < 0) break;
    draft_[count_] = token;
  }
  return {draft_.data(), size_t(count_)};
}

void Lookup::ran(int32_t accepted, double seconds) {
  double& known = seconds_[count_ + 1];
  known = known > 0 ? known + kNewTime * (seconds - known) : seconds;
  const int32_t tokens = accepted + 1;
  account_ += kAllowance * tokens;
  if (count_ == 0) {
    for (Trials& t : trials_) t = {t.right * kIdleFade, t.all * kIdleFade};
  } else {
    if (seconds_[1] > 0) account_ += tokens - seconds / seconds_[1];
    Trials& t = trials_[class_];
    t = {t.right * kFade + accepted, t.all * kFade + accepted + (accepted < count_)};
  }
  account_ = std::min(account_, kMostAccount);
}

}  // namespace hvl

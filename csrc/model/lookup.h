// Prompt-lookup speculation: text that repeats its context is guessed from where it stood before, and the guess is verified in one run of
// several rows. What is guessed never changes what is said, only how soon.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace hvl {

inline constexpr int32_t kMostDraft = 7;  // tokens guessed at once

// Decides when a guess is worth its rows. A failed guess costs the extra rows, so it keeps an account in units of one plain step's time: right
// guesses pay in, wrong ones are paid from it, and every token pays in a little. What the account does not cover is not tried. So text that
// does not repeat itself is at most about kAllowance slower, by the times that were measured so far.
class Lookup {
 public:
  // A new text. What rows cost is still known.
  void restart();

  // For tests: guesses as much as it can, whatever that costs.
  void always(bool on) { always_ = on; }

  // Tokens to try after `text` (ids so far; -1, an image's, match nothing), at most `most` and kMostDraft; empty: do a plain step.
  // They follow the longest earlier occurrence of the text's end, of equals the latest. Valid until the next call.
  std::span<const int32_t> draft(std::span<const int32_t> text, int32_t most);

  // What became of the last draft: the run of its tokens and the one before them took `seconds`, `accepted` of them were right.
  void ran(int32_t accepted, double seconds);

 private:
  struct Trials {
    double right = 0, all = 0;  // recent tokens guessed, old ones fading out
  };

  double cost(int32_t rows) const;  // of a run, in plain steps
  int32_t worth(double chance, int32_t most) const;

  std::array<double, kMostDraft + 2> seconds_ = {};  // by rows; 0: not seen
  std::array<Trials, 3> trials_;                     // by length of the match
  double account_ = 0;
  bool always_ = false;
  size_t class_ = 0;  // of the last draft
  int32_t count_ = 0;
  std::array<int32_t, kMostDraft> draft_ = {};
};

}  // namespace hvl

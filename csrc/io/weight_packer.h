// Fills a packed file or private memory: plan every section, begin, write each one, finish.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "csrc/io/weight_store.h"

namespace hvl {

// Calls in another order, unknown names and wrong sizes are Error kValue. A full disk is std::system_error (ENOSPC) from begin().
// A file that was not finished has no valid header: WeightStore::open refuses it.
class WeightPacker {
 public:
  // path: a file that must not exist yet; empty: private memory.
  WeightPacker(std::string path, std::string fingerprint, std::string config_json);

  void plan_linear(const std::string& name, int64_t rows, int64_t cols, int32_t bits, int32_t group_size, int32_t scale_bits,
                   bool zero_points);
  void plan_array(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape);

  size_t begin();  // total bytes

  // What a planned linear must be given: words a row and scales a row (or one scale a row for the whole of it).
  const Section& planned(const std::string& name) const;

  void write_linear(const std::string& name, const int32_t* words,  // (rows, words_per_row): compressed-tensors' weight_packed
                    int64_t words_per_row, const float* scales,     // (rows, scale_cols)
                    const int8_t* zero_points,                      // (rows, scale_cols), or null if planned without
                    int32_t scale_cols);
  void write_array(const std::string& name, const void* values, size_t bytes);

  std::shared_ptr<WeightStore> finish();

 private:
  enum class State { kPlanning, kWriting, kFinished };

  void require(State state, const char* call) const;
  void add(Section section);
  size_t writable(const std::string& name, bool is_linear) const;  // index of the section

  std::string path_, fingerprint_, config_json_;
  State state_ = State::kPlanning;
  std::vector<Section> sections_;
  std::vector<bool> written_;
  std::unordered_map<std::string, size_t> index_;
  PackedLayout layout_;
  Mapping memory_;
};

}  // namespace hvl

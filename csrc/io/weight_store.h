// Packed weights by name: how model code reads a checkpoint. Immutable; shared by sessions, threads and (mapped) processes.
//
// Names are the float checkpoint's: "model.language_model.layers.0.self_attn.q_proj.weight", "....bias", "model.vrc.fc1.weight_scale".
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "csrc/io/mapping.h"
#include "csrc/io/packed_file.h"
#include "kernels/linear/linear.h"

namespace hvl {

struct StoredTensor {
  std::string name;
  bool is_linear;
  LinearWeight linear;         // when is_linear; its data is `data`
  std::string dtype;           // "F32", "I8", ... of an array; empty when is_linear
  std::vector<int64_t> shape;  // of a linear: (rows, cols)
  const uint8_t* data;         // 64-byte aligned
  size_t bytes;
};

class WeightStore {
 public:
  // Maps a packed file and checks every byte of it, threaded at memory speed; only its header and table if its identity (see Mapping) is
  // `known`: the one it had when it was last checked as a whole.
  // Error kNotFound when there is none; kCheckpoint when it is damaged, of another version or of another fingerprint.
  static std::shared_ptr<WeightStore> open(const std::string& path, const std::string& fingerprint, const std::string& known = "");

  // Takes over memory whose sections the packer has filled.
  WeightStore(Mapping memory, std::vector<Section> sections, std::string config_json);

  const StoredTensor* find(const std::string& name) const;  // null when there is none

  // These raise Error kCheckpoint naming the tensor, what was expected and what is there.
  const StoredTensor& get(const std::string& name) const;
  const LinearWeight& linear(const std::string& name, int64_t rows, int64_t cols) const;
  const float* floats(const std::string& name, int64_t count) const;  // an F32 array of `count` elements
  const int8_t* int8s(const std::string& name, int64_t count) const;

  // Copies the tensors whose names begin so into private memory in huge pages, if as much again is available: what is read for every token
  // is read faster from there than from the pages of a file. Others may read them meanwhile. Ends early when nobody else has the store any more.
  static void make_private(const std::shared_ptr<WeightStore>& store, const std::vector<std::string>& prefixes);
  // The same in a thread of its own. `settle` waits for it, a second at most and once: whatever needs all processors comes to a better end then.
  static void make_private_later(const std::shared_ptr<WeightStore>& store, std::vector<std::string> prefixes);
  void settle() const;

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const std::string& config_json() const { return config_json_; }
  size_t bytes() const { return memory_.bytes(); }
  const uint8_t* data() const { return memory_.data(); }
  const std::string& identity() const { return identity_; }  // of the file that was opened; "" for private memory

 private:
  const StoredTensor& array(const std::string& name, const char* dtype, int64_t count) const;

  Mapping memory_;
  std::vector<StoredTensor> tensors_;  // in the order packed
  std::unordered_map<std::string, size_t> index_;
  std::string config_json_, identity_;
  mutable std::atomic<bool> copying_{false};
};

}  // namespace hvl

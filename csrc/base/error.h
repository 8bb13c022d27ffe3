// The one error type above the kernels. Kinds map to Python types in csrc/bindings.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace hvl {

enum class ErrorKind {
  kValue,       // ValueError: an argument, image or size is not valid
  kNotFound,    // FileNotFoundError
  kMemory,      // MemoryError: budget, cap or allocation
  kCheckpoint,  // CheckpointError (a HyperVLError): a model file is not what it should be
  kCancelled,   // CancelledError (a HyperVLError)
  kRuntime,     // HyperVLError
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// fail(ErrorKind::kValue, "expected ", a, ", got ", b, ": do ...")
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  throw Error(kind, out.str());
}

}  // namespace hvl

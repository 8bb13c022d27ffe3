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
  kDevice,      // DeviceError (a HyperVLError): it is not there, refused, or failed
  kRuntime,     // HyperVLError
};

// joined("expected ", a, ", got ", b)
template <typename... Parts>
std::string joined(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

#if !defined(__cpp_exceptions)
// The program that is built without exceptions (hexagon/dsp) says how it ends. What a message can bring about never comes here.
[[noreturn]] void end_program(ErrorKind kind, const std::string& message);
#endif

// fail(ErrorKind::kValue, "expected ", a, ", got ", b, ": do ...")
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
#if defined(__cpp_exceptions)
  throw Error(kind, joined(parts...));
#else
  end_program(kind, joined(parts...));
#endif
}

}  // namespace hvl

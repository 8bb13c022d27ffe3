// The one error type above the kernels. Kinds map to Python types in csrc/bindings.
#pragma once

#include <stdio.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

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

template <typename T>
void append_text(std::string& to, const T& part) {
  if constexpr (std::is_convertible_v<T, std::string_view>) {
    to += std::string_view(part);
  } else if constexpr (std::is_same_v<T, char>) {
    to += part;
  } else if constexpr (std::is_floating_point_v<T>) {
    char digits[32];
    snprintf(digits, sizeof digits, "%g", double(part));
    to += digits;
  } else {
    static_assert(std::is_integral_v<T>);
    char digits[32];
    snprintf(digits, sizeof digits, std::is_signed_v<T> ? "%lld" : "%llu", static_cast<long long>(part));
    to += digits;
  }
}

// joined("expected ", a, ", got ", b). Without streams, which no library on the DSP has.
template <typename... Parts>
std::string joined(const Parts&... parts) {
  std::string text;
  (append_text(text, parts), ...);
  return text;
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

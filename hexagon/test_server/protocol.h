// Messages between tests and the test server, over its standard input and output. All integers are 32 bits, little endian.
//
// Every message is a length and that many bytes.
//   request: magic, name_bytes, scalars, inputs, outputs; the kernel's name; scalars (int32); bytes of each input; bytes of each output;
//            the inputs, one after the other
//   reply:   magic, status, packets, instructions, hvx_instructions, text_bytes, outputs; bytes of each output; text (of an error);
//            the outputs. A status other than kOk comes without outputs.
// The other side is tools/hexagon/client.py.
#pragma once

#include <stdint.h>

namespace hvl {

inline constexpr uint32_t kRequestMagic = 0x514c5648;  // "HVLQ"
inline constexpr uint32_t kReplyMagic = 0x524c5648;    // "HVLR"
inline constexpr uint32_t kMostNameBytes = 64;
inline constexpr uint32_t kMostScalars = 32;
inline constexpr uint32_t kMostBuffers = 16;
inline constexpr uint32_t kMostBytes = 256u << 20;  // of a request; of the outputs together

enum class Status : uint32_t {
  kOk = 0,
  kMalformed = 1,  // the message is not a request as above
  kTooLarge = 2,   // more than kMostBytes, or more than there is memory for
  kUnknownKernel = 3,
  kInvalidArguments = 4,  // the kernel refuses them
  kOverrun = 5,           // the kernel wrote beyond the end of an output
};

struct Request {
  char name[kMostNameBytes + 1];
  uint32_t scalar_count, input_count, output_count;
  int32_t scalars[kMostScalars];
  uint32_t input_bytes[kMostBuffers];
  uint32_t output_bytes[kMostBuffers];
  const uint8_t* inputs;  // in the message; one after the other, of any alignment
};

// Reads a request of `bytes` bytes. Whatever the bytes are, reads nothing beyond them. On an error `text` says what is wrong.
Status parse_request(const uint8_t* message, uint32_t bytes, Request* request, const char** text);

}  // namespace hvl

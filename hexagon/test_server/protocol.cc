#include "hexagon/test_server/protocol.h"

#include <string.h>

namespace hvl {
namespace {

// Takes bytes off the front of a message; false when there are not so many.
struct Reader {
  const uint8_t* at;
  uint32_t left;

  bool take(void* to, uint32_t bytes) {
    if (bytes > left) return false;
    memcpy(to, at, bytes);
    at += bytes;
    left -= bytes;
    return true;
  }
};

uint64_t sum(const uint32_t* values, uint32_t count) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; ++i) total += values[i];
  return total;
}

}  // namespace

Status parse_request(const uint8_t* message, uint32_t bytes, Request* request, const char** text) {
  const auto malformed = [&](const char* why) {
    *text = why;
    return Status::kMalformed;
  };
  Reader reader = {message, bytes};
  uint32_t head[5];
  if (!reader.take(head, sizeof head)) return malformed("a request has at least 20 bytes");
  const auto [magic, name_bytes, scalars, inputs, outputs] = head;
  if (magic != kRequestMagic) return malformed("the magic number is wrong");
  if (name_bytes == 0 || name_bytes > kMostNameBytes) return malformed("a kernel's name has 1 to 64 bytes");
  if (scalars > kMostScalars) return malformed("more than 32 scalars");
  if (inputs > kMostBuffers || outputs > kMostBuffers) return malformed("more than 16 inputs or outputs");
  if (!reader.take(request->name, name_bytes)) return malformed("the message ends in the kernel's name");
  request->name[name_bytes] = 0;
  if (strlen(request->name) != name_bytes) return malformed("a zero byte in the kernel's name");
  request->scalar_count = scalars;
  request->input_count = inputs;
  request->output_count = outputs;
  if (!reader.take(request->scalars, scalars * 4)) return malformed("the message ends in the scalars");
  if (!reader.take(request->input_bytes, inputs * 4) || !reader.take(request->output_bytes, outputs * 4)) {
    return malformed("the message ends in the buffers' sizes");
  }
  if (sum(request->input_bytes, inputs) != reader.left) return malformed("the inputs' sizes do not add up to what the message holds");
  if (sum(request->output_bytes, outputs) > kMostBytes) {
    *text = "more than 256 MiB of outputs";
    return Status::kTooLarge;
  }
  request->inputs = reader.at;
  return Status::kOk;
}

}  // namespace hvl

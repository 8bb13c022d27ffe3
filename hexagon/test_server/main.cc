// Runs kernels on what tests send, until standard input ends. See protocol.h. Exit code: 0; 1 where input ends within a message or output
// cannot be written.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hexagon/test_server/guarded_buffer.h"
#include "hexagon/test_server/kernel_call.h"
#include "hexagon/test_server/protocol.h"

namespace hvl {
namespace {

struct Entry {
  const char* name;
  void (*run)(KernelCall&);
};
#define HVL_ENTRY(name) {#name, name},
constexpr Entry kKernels[] = {HVL_HEXAGON_TESTS(HVL_ENTRY)};
#undef HVL_ENTRY

// Reads `bytes` bytes, to nowhere if `to` is null. Returns how many there were before the input's end.
uint32_t read_all(uint8_t* to, uint32_t bytes) {
  uint8_t nowhere[4096];
  uint32_t done = 0;
  while (done < bytes) {
    const uint32_t left = bytes - done;
    const ssize_t got = to ? read(0, to + done, left) : read(0, nowhere, left < sizeof nowhere ? left : sizeof nowhere);
    if (got <= 0) break;
    done += uint32_t(got);
  }
  return done;
}

void write_all(const void* from, uint32_t bytes) {
  const uint8_t* at = static_cast<const uint8_t*>(from);
  while (bytes) {
    const ssize_t put = write(1, at, bytes);
    if (put <= 0) exit(1);
    at += put;
    bytes -= uint32_t(put);
  }
}

void reply(Status status, const char* text, const Counts& counts, const Buffer* outputs, uint32_t output_count) {
  const uint32_t text_bytes = uint32_t(strlen(text));
  uint32_t sizes[kMostBuffers];
  uint32_t bytes = 7 * 4 + output_count * 4 + text_bytes;
  for (uint32_t i = 0; i < output_count; ++i) bytes += sizes[i] = outputs[i].bytes;
  const uint32_t head[] = {bytes,      kReplyMagic, uint32_t(status), counts.packets, counts.instructions, counts.hvx_instructions,
                           text_bytes, output_count};
  write_all(head, sizeof head);
  write_all(sizes, output_count * 4);
  write_all(text, text_bytes);
  for (uint32_t i = 0; i < output_count; ++i) write_all(outputs[i].data, outputs[i].bytes);
}

void reply_error(Status status, const char* text) { reply(status, text, {}, nullptr, 0); }

const Entry* find_kernel(const char* name) {
  for (const Entry& entry : kKernels) {
    if (strcmp(entry.name, name) == 0) return &entry;
  }
  return nullptr;
}

void run(const Request& request) {
  const Entry* kernel = find_kernel(request.name);
  if (!kernel) return reply_error(Status::kUnknownKernel, request.name);
  GuardedBuffer inputs[kMostBuffers], outputs[kMostBuffers];
  Buffer in[kMostBuffers], out[kMostBuffers];
  const uint8_t* next = request.inputs;
  for (uint32_t i = 0; i < request.input_count; ++i) {
    if (!inputs[i].allocate(request.input_bytes[i])) return reply_error(Status::kTooLarge, "no memory for an input");
    in[i] = inputs[i].buffer();
    memcpy(in[i].data, next, in[i].bytes);
    next += in[i].bytes;
    if (!inputs[i].make_read_only()) return reply_error(Status::kTooLarge, "no memory for an input's protection");
  }
  for (uint32_t i = 0; i < request.output_count; ++i) {
    if (!outputs[i].allocate(request.output_bytes[i])) return reply_error(Status::kTooLarge, "no memory for an output");
    out[i] = outputs[i].buffer();
  }
  KernelCall call = {request.scalars, request.scalar_count, in, request.input_count, out, request.output_count};
  kernel->run(call);
  if (call.error) return reply_error(Status::kInvalidArguments, call.error);
  for (uint32_t i = 0; i < request.output_count; ++i) {
    if (outputs[i].overrun()) return reply_error(Status::kOverrun, "the kernel wrote beyond the end of an output");
  }
  static const Counts empty = count([] {});
  reply(Status::kOk, "", call.counts.packets ? call.counts - empty : Counts{}, out, request.output_count);
}

// Reads and answers one message. Returns false at the input's end.
bool serve() {
  uint32_t bytes;
  const uint32_t got = read_all(reinterpret_cast<uint8_t*>(&bytes), sizeof bytes);
  if (got == 0) return false;
  if (got != sizeof bytes) exit(1);
  uint8_t* message = bytes <= kMostBytes ? static_cast<uint8_t*>(malloc(bytes ? bytes : 1)) : nullptr;
  if (read_all(message, bytes) != bytes) exit(1);
  if (!message) {
    reply_error(Status::kTooLarge, "a message of more than 256 MiB, or more than there is memory for");
    return true;
  }
  Request request;
  const char* text = "";
  const Status status = parse_request(message, bytes, &request, &text);
  if (status == Status::kOk) {
    run(request);
  } else {
    reply_error(status, text);
  }
  free(message);
  return true;
}

}  // namespace
}  // namespace hvl

int main() {
  while (hvl::serve()) {
  }
  return 0;
}

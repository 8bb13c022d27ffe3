// Not kernels, but what kernels may do wrong, for the tests of the test server.
#include <string.h>

#include "hexagon/test_server/kernel_call.h"

namespace hvl {

// Outputs are the inputs, which must have their sizes.
void echo(KernelCall& call) {
  if (!call.check(call.input_count == call.output_count, "as many outputs as inputs")) return;
  for (uint32_t i = 0; i < call.input_count; ++i) {
    if (!call.check(call.inputs[i].bytes == call.outputs[i].bytes, "an output of another size than its input")) return;
  }
  call.measure([&] {
    for (uint32_t i = 0; i < call.input_count; ++i) memcpy(call.outputs[i].data, call.inputs[i].data, call.inputs[i].bytes);
  });
}

void hang(KernelCall&) {
  for (volatile bool on = true; on;) {
  }
}

void write_past_end(KernelCall& call) {
  if (!call.check(call.output_count == 1 && call.outputs[0].bytes % 128, "one output, of no multiple of 128 bytes")) return;
  call.outputs[0].data[call.outputs[0].bytes] = 0;
}

void write_to_input(KernelCall& call) {
  if (!call.check(call.input_count == 1 && call.inputs[0].bytes, "one input")) return;
  call.inputs[0].data[0] = 0;
}

void read_past_guard(KernelCall& call) {
  if (!call.check(call.input_count == 1 && call.inputs[0].bytes % 128 == 0, "one input of a multiple of 128 bytes")) return;
  const volatile uint8_t* end = call.inputs[0].data + call.inputs[0].bytes;
  (void)*end;
}

}  // namespace hvl

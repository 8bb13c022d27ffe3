// add's kernels for the test server.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: rows, cols, begin, end, how many numbers each operand starts after its buffer's beginning. Inputs: a, b. Output: out.
void add(KernelCall& call, void (*kernel)(const AddArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(5, 2, 1)) return;
  const auto [rows, cols, begin, end, at] = *reinterpret_cast<const int32_t(*)[5]>(call.scalars);
  constexpr int32_t kMost = 1 << 16;
  const bool sized = 0 < rows && rows <= kMost && 0 < cols && cols <= kMost && 0 <= begin && begin <= end && end <= rows && 0 <= at && at < 64;
  if (!call.check(sized, "rows, cols, begin, end or offset out of range")) return;
  const int64_t bytes = (int64_t{rows} * cols + at) * 4;
  const bool fits = call.inputs[0].bytes == bytes && call.inputs[1].bytes == bytes && call.outputs[0].bytes == bytes;
  if (!call.check(fits, "a buffer of another size than the scalars make it")) return;
  const AddArgs args = {reinterpret_cast<const float*>(call.inputs[0].data) + at, reinterpret_cast<const float*>(call.inputs[1].data) + at,
                        reinterpret_cast<float*>(call.outputs[0].data) + at, rows, cols};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void add_fixed(KernelCall& call) { add(call, add_fixed); }
void add_hvx(KernelCall& call) { add(call, add_hvx); }

}  // namespace hvl

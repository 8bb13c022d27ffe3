// embed's kernels for the test server.
#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: rows, vocab, hidden, bits, group_size, scale_bits, zero_points, out_stride, begin, end. Inputs: ids, the packed weight.
// Output: out, of the last row only what the row has.
void embed(KernelCall& call, void (*kernel)(const EmbedArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(10, 2, 1)) return;
  const auto [rows, vocab, hidden, bits, group_size, scale_bits, zero_points, out_stride, begin, end] =
      *reinterpret_cast<const int32_t(*)[10]>(call.scalars);
  const bool one_of = (bits == 4 || bits == 8) && (scale_bits == 16 || scale_bits == 32) && (zero_points == 0 || zero_points == 1);
  const LinearWeight weight = {call.inputs[1].data, vocab, hidden, bits, group_size, scale_bits, zero_points};
  if (!call.check(one_of && linear_group_fits(weight), "bits, group_size, scale_bits or zero_points that linear.h does not have")) return;
  constexpr int32_t kMost = 1 << 16;
  const bool sized = 0 < rows && rows <= kMost && 0 < vocab && vocab <= kMost && 0 < hidden && hidden <= kMost && hidden <= out_stride &&
                     out_stride <= 2 * kMost && 0 <= begin && begin <= end && end <= rows;
  if (!call.check(sized, "rows, vocab, hidden, out_stride, begin or end out of range")) return;
  const bool fits = call.inputs[0].bytes == uint32_t(rows) * 4 && call.inputs[1].bytes == linear_bytes(weight) &&
                    call.outputs[0].bytes == (int64_t(rows - 1) * out_stride + hidden) * 4;
  if (!call.check(fits, "a buffer of another size than the scalars make it")) return;
  const auto* ids = reinterpret_cast<const int32_t*>(call.inputs[0].data);
  for (int32_t row = 0; row < rows; ++row) {
    if (!call.check(ids[row] < vocab, "an id beyond the vocabulary")) return;
  }
  const EmbedArgs args = {weight, ids, reinterpret_cast<float*>(call.outputs[0].data), out_stride, rows};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void embed_fixed(KernelCall& call) { embed(call, embed_fixed); }
void embed_hvx(KernelCall& call) { embed(call, embed_hvx); }

}  // namespace hvl

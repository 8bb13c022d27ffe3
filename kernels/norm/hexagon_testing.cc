// norm for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include <cstring>

#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

// Scalars: kind, bits of eps, rows, cols, begin, end, words from one row to the next of x and of the output, 1 where the output is x's
// memory (then in the output's places), words before x, weight, bias and output. Inputs: x, weight, bias (of LayerNorm; else empty).
// x and output hold rows times their stride; all hold what stands before them.
void norm(KernelCall& call, void (*kernel)(const NormArgs&, int32_t, int32_t) noexcept) {
  if (!call.has(13, 3, 1)) return;
  const auto [kind, eps_bits, rows, cols, begin, end, x_stride, out_stride, in_place] =
      *reinterpret_cast<const int32_t(*)[9]>(call.scalars);
  const int32_t* before = call.scalars + 9;
  constexpr int32_t kMost = 1 << 16;
  const bool layer = kind == int32_t(NormKind::kLayer);
  if (!call.check(layer || kind == int32_t(NormKind::kRms), "kind: 0 or 1")) return;
  float eps;
  std::memcpy(&eps, &eps_bits, sizeof eps);
  if (!call.check(eps >= 0 && eps - eps == 0, "eps: finite and not negative")) return;
  if (!call.check(0 < rows && rows <= kMost && 0 < cols && cols <= 32768, "rows: 1 to 65536; cols: 1 to 32768")) return;
  if (!call.check(0 <= begin && begin <= end && end <= rows, "rows from begin to end")) return;
  if (!call.check(cols <= x_stride && x_stride <= kMost && cols <= out_stride && out_stride <= kMost, "strides: cols to 65536")) return;
  if (!call.check(!in_place || x_stride == out_stride, "in place, strides are the same")) return;
  for (int i = 0; i < 4; ++i) {
    if (!call.check(0 <= before[i] && before[i] <= kMost, "words before a buffer: up to 65536")) return;
  }
  const int64_t words[] = {int64_t(rows) * x_stride, cols, layer ? cols : 0, int64_t(rows) * out_stride};
  for (int i = 0; i < 4; ++i) {
    const Buffer& buffer = i < 3 ? call.inputs[i] : call.outputs[0];
    if (!call.check(buffer.bytes == 4 * (before[i] + words[i]), "a buffer of another size than its scalars make it")) return;
  }
  const auto at = [&](int i) { return reinterpret_cast<float*>(i < 3 ? call.inputs[i].data : call.outputs[0].data) + before[i]; };
  if (in_place) std::memcpy(at(3), at(0), size_t(words[0]) * 4);
  const NormArgs args = {at(in_place ? 3 : 0), x_stride, at(1),         layer ? at(2) : nullptr, at(3), out_stride, rows, cols,
                         eps,                  NormKind(kind)};
  call.measure([&] { kernel(args, begin, end); });
}

}  // namespace

void norm_fixed(KernelCall& call) { norm(call, norm_fixed); }
void norm_hvx(KernelCall& call) { norm(call, norm_hvx); }

}  // namespace hvl

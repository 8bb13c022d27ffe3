// activation and silu_mul for the test server. Scalars and buffers are checked here, for the kernels trust theirs.
#include <cstring>

#include "hexagon/test_server/kernel_call.h"
#include "kernels/registry.h"

namespace hvl {
namespace {

struct Shape {
  int32_t rows, cols, begin, end;
  float* inputs[2];
  float* out;
};

// Scalars: rows, cols, begin, end, words before the output, 1 where the output is the first input's memory, words before each input.
// Inputs and the output hold as many words as stand before them, and rows * cols.
bool take_rows(KernelCall& call, uint32_t inputs, const int32_t* scalars, Shape* shape) {
  const int32_t rows = scalars[0], cols = scalars[1], begin = scalars[2], end = scalars[3], before = scalars[4], in_place = scalars[5];
  constexpr int32_t kMost = 1 << 16;
  if (!call.check(0 < rows && rows <= kMost && 0 < cols && cols <= kMost, "rows and cols: 1 to 65536")) return false;
  if (!call.check(0 <= begin && begin <= end && end <= rows, "rows from begin to end")) return false;
  const int64_t words = int64_t(rows) * cols;
  const auto fits = [&](const Buffer& buffer, int32_t words_before) {
    return call.check(0 <= words_before && words_before <= kMost, "words before a buffer: up to 65536") &&
           call.check(buffer.bytes == 4 * (words + words_before), "a buffer of another size than rows, cols and words before make it");
  };
  if (!fits(call.outputs[0], before)) return false;
  *shape = {rows, cols, begin, end, {}, reinterpret_cast<float*>(call.outputs[0].data) + before};
  for (uint32_t i = 0; i < inputs; ++i) {
    if (!fits(call.inputs[i], scalars[6 + i])) return false;
    shape->inputs[i] = reinterpret_cast<float*>(call.inputs[i].data) + scalars[6 + i];
  }
  if (in_place) {
    std::memcpy(shape->out, shape->inputs[0], size_t(words) * 4);
    shape->inputs[0] = shape->out;
  }
  return true;
}

// Scalars: the kind, and those of take_rows.
void activation(KernelCall& call, void (*kernel)(const ActivationArgs&, int32_t, int32_t) noexcept) {
  Shape s;
  if (!call.has(8, 1, 1)) return;
  if (!call.check(0 <= call.scalars[0] && call.scalars[0] <= int32_t(ActivationKind::kQuickGelu), "kind: 0 to 4")) return;
  if (!take_rows(call, 1, call.scalars + 1, &s)) return;
  const ActivationArgs args = {s.inputs[0], s.out, s.rows, s.cols, ActivationKind(call.scalars[0])};
  call.measure([&] { kernel(args, s.begin, s.end); });
}

void silu_mul(KernelCall& call, void (*kernel)(const SiluMulArgs&, int32_t, int32_t) noexcept) {
  Shape s;
  if (!call.has(8, 2, 1) || !take_rows(call, 2, call.scalars, &s)) return;
  const SiluMulArgs args = {s.inputs[0], s.inputs[1], s.out, s.rows, s.cols};
  call.measure([&] { kernel(args, s.begin, s.end); });
}

}  // namespace

void activation_fixed(KernelCall& call) { activation(call, activation_fixed); }
void activation_hvx(KernelCall& call) { activation(call, activation_hvx); }
void silu_mul_fixed(KernelCall& call) { silu_mul(call, silu_mul_fixed); }
void silu_mul_hvx(KernelCall& call) { silu_mul(call, silu_mul_hvx); }

}  // namespace hvl

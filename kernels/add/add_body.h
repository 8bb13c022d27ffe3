// out = a + b, written once over the vec16 of the including variant.
#pragma once

#include "kernels/add/add.h"

namespace hvl {
namespace {

HVL_VEC void add_body(const AddArgs& args, int32_t begin, int32_t end) {
  const int64_t first = int64_t{begin} * args.cols;
  const int64_t n = int64_t{end - begin} * args.cols;
  const float* a = args.a + first;
  const float* b = args.b + first;
  float* out = args.out + first;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vec::store(out + i, vec::add(vec::load(a + i), vec::load(b + i)));
  if (i < n) {
    const int tail = static_cast<int>(n - i);
    vec::store_n(out + i, vec::add(vec::load_n(a + i, tail), vec::load_n(b + i, tail)), tail);
  }
}

}  // namespace
}  // namespace hvl

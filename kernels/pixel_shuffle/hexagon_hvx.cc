// Space to depth in HVX: copies of the tokens that lie side by side. Bound by a load and a store for each vector, which take 2.6
// packets (lines of 2048 words).
#include "kernels/common/hexagon_vector.h"
#include "kernels/pixel_shuffle/pixel_shuffle.h"

namespace hvl {

void pixel_shuffle_hvx(const PixelShuffleArgs& args, int32_t begin, int32_t end) noexcept {
  using hexagon::kBlock;
  const int32_t s = args.factor, out_w = args.grid_w / s, words = s * args.cols;
  auto* out = reinterpret_cast<int32_t*>(args.out) + begin * s * words;
  for (int32_t token = begin; token < end; ++token) {
    const int32_t row = token / out_w * s, column = token % out_w * s;
    for (int32_t dy = 0; dy < s; ++dy) {
      const int32_t* const x[1] = {reinterpret_cast<const int32_t*>(args.x) + ((row + dy) * args.grid_w + column) * args.cols};
      hexagon::map(x, out, words, [](const hexagon::Vector (&in)[1][kBlock], hexagon::Vector (&y)[kBlock]) __attribute__((always_inline)) {
        for (int v = 0; v < kBlock; ++v) {
          y[v] = in[0][v];
          asm("" : "+v"(y[v]));  // or the loop becomes the C library's memmove
        }
      });
      out += words;
    }
  }
}

}  // namespace hvl

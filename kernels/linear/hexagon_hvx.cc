// The linear layer in HVX (hexagon_body.h). Weights of 8 bits are compiled by themselves: hexagon_hvx_w8.cc.
#include "kernels/linear/hexagon_body.h"

namespace hvl {

void linear_w8_hvx(const LinearArgs& args, int32_t begin, int32_t end);

void linear_hvx(const LinearArgs& args, int32_t begin, int32_t end) noexcept {
  args.weight.bits == 4 ? linear_of_bits<4>(args, begin, end) : linear_w8_hvx(args, begin, end);
}

}  // namespace hvl

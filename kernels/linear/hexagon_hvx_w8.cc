#include "kernels/linear/hexagon_body.h"

namespace hvl {

void linear_w8_hvx(const LinearArgs& args, int32_t begin, int32_t end);
void linear_w8_hvx(const LinearArgs& args, int32_t begin, int32_t end) { linear_of_bits<8>(args, begin, end); }

}  // namespace hvl

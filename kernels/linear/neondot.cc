// NEON with dotprod: 4 output rows a register, 4 values of K a lane, sdot and udot.
#include "kernels/linear/neon_dots.h"

namespace hvl {

void linear_neondot(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<LaneDots>(args, begin, end); }

}  // namespace hvl

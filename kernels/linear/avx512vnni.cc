// AVX-512 VNNI: 16 output rows a register, 4 values of K a lane, vpdpbusd.
#include "kernels/linear/simd512.h"

namespace hvl {

void linear_avx512vnni(const LinearArgs& args, int32_t begin, int32_t end) noexcept { run_linear<Avx512Vnni, Avx512Vnni>(args, begin, end); }

}  // namespace hvl

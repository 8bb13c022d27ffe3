// The instruction sets a kernel may be written for, in rising order of preference.
#pragma once

namespace hvl {

enum class Isa : int { kReference = 0, kAvx2 = 1, kAvx512Vnni = 2 };
inline constexpr int kIsaCount = 3;
inline constexpr const char* kIsaNames[kIsaCount] = {"reference", "avx2", "avx512vnni"};

}  // namespace hvl

// The instruction sets a kernel may be written for, in rising order of preference, by the processor this is built for.
#pragma once

namespace hvl {

// X(id, name): all of them. HVL_FULL_ISAS: those with a variant of every kernel. HVL_PARTIAL_ISAS(X): X(id, name, base): those with some
// (HVL_KERNELS_name of registry.h), the others being the base's.
#if defined(__x86_64__)
#define HVL_FULL_ISAS(X) X(kReference, reference) X(kAvx2, avx2) X(kAvx512Vnni, avx512vnni)
#define HVL_PARTIAL_ISAS(X) X(kPortable, portable, reference) X(kAvxVnni, avxvnni, avx2) X(kAmxInt8, amxint8, avx512vnni)
#define HVL_ISAS(X) \
  X(kReference, reference) X(kPortable, portable) X(kAvx2, avx2) X(kAvxVnni, avxvnni) X(kAvx512Vnni, avx512vnni) X(kAmxInt8, amxint8)
#elif defined(__aarch64__)
#define HVL_FULL_ISAS(X) X(kReference, reference) X(kNeonDot, neondot)
#define HVL_PARTIAL_ISAS(X) X(kI8mm, i8mm, neondot)
#define HVL_ISAS(X) X(kReference, reference) X(kNeonDot, neondot) X(kI8mm, i8mm)
#else
#define HVL_FULL_ISAS(X) X(kReference, reference)
#define HVL_PARTIAL_ISAS(X) X(kPortable, portable, reference)
#define HVL_ISAS(X) X(kReference, reference) X(kPortable, portable)
#endif

#define HVL_ID(id, name) id,
enum class Isa : int { HVL_ISAS(HVL_ID) };
#undef HVL_ID

#define HVL_NAME(id, name) #name,
inline constexpr const char* kIsaNames[] = {HVL_ISAS(HVL_NAME)};
#undef HVL_NAME
inline constexpr int kIsaCount = sizeof(kIsaNames) / sizeof(*kIsaNames);

}  // namespace hvl

// Parts of vectors at any address, without touching what is not theirs: for rows that end within a vector.
#pragma once

#include <hexagon_protos.h>
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stdint.h>

namespace hvl::hexagon {
namespace {

// The first `bytes` bytes at `from`, 1 .. 128; what follows in the vector is anything. Loads only vectors that hold some of them.
inline HVX_Vector load_part(const void* from, int32_t bytes) {
  const uint32_t at = reinterpret_cast<uintptr_t>(from) & 127;
  const auto* vectors = reinterpret_cast<const HVX_Vector*>(reinterpret_cast<uintptr_t>(from) & ~uintptr_t{127});
  return Q6_V_valign_VVR(vectors[at + bytes > 128 ? 1 : 0], vectors[0], int32_t(at));
}

// Writes the first `bytes` bytes of v, 1 .. 128, to `to`, and no others.
inline void store_part(void* to, HVX_Vector v, int32_t bytes) {
  const uint32_t at = reinterpret_cast<uintptr_t>(to) & 127, end = at + bytes;
  auto* vectors = reinterpret_cast<HVX_Vector*>(reinterpret_cast<uintptr_t>(to) & ~uintptr_t{127});
  const HVX_Vector turned = Q6_V_vlalign_VVR(v, v, int32_t(at));
  const HVX_VectorPred before = Q6_Q_vsetq_R(int32_t(at)), until = Q6_Q_vsetq2_R(int32_t(end < 128 ? end : 128));
  Q6_vmem_QRIV(Q6_Q_and_QQn(until, before), vectors, turned);
  if (end > 128) Q6_vmem_QRIV(Q6_Q_vsetq_R(int32_t(end - 128)), vectors + 1, turned);
}

}  // namespace
}  // namespace hvl::hexagon

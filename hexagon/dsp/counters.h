// QEMU's counters of what a thread executed: control registers that no device has. The same from run to run. Zeros on other processors.
#pragma once

#include <stdint.h>

namespace hvl {

struct Counts {
  uint32_t packets, instructions, hvx_instructions;  // modulo 2^32
};

// The assembler does not know c20, c21, c22: r0 = c20, r1 = c21, r2 = c22 by their encodings.
__attribute__((always_inline)) inline Counts qemu_counters() {
#if defined(__hexagon__)
  register uint32_t packets asm("r0");
  register uint32_t instructions asm("r1");
  register uint32_t hvx_instructions asm("r2");
  asm volatile(".word 0x6a14c000\n.word 0x6a15c001\n.word 0x6a16c002"
               : "=r"(packets), "=r"(instructions), "=r"(hvx_instructions)::"memory");
  return {packets, instructions, hvx_instructions};
#else
  return {};
#endif
}

inline Counts operator-(const Counts& a, const Counts& b) {
  return {a.packets - b.packets, a.instructions - b.instructions, a.hvx_instructions - b.hvx_instructions};
}

// What `body` takes, its call included.
template <class Body>
__attribute__((noinline)) Counts count(const Body& body) {
  const Counts before = qemu_counters();
  body();
  return qemu_counters() - before;
}

}  // namespace hvl

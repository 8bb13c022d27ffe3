// What the scheduler knows of a machine. Plain figures; where each comes from is kept beside them in python/hypervl_engine/hardware.
#pragma once

#include <cstdint>
#include <string>

namespace hvl {

// X(figure). Rates of compute are per clock cycle and context (hardware thread); all contexts work side by side.
#define HVL_SPEC_FIGURES(X)                                                                                          \
  X(fast_bytes)            /* fast memory: VTCM, or the share of the caches that activations may take */             \
  X(reserved_bytes)        /* of it, not ours */                                                                     \
  X(vector_bytes)          /* a vector register */                                                                   \
  X(contexts)              /* hardware threads that run kernels */                                                   \
  X(clock_hz)                                                                                                        \
  X(transfer_bytes_per_s)  /* between DDR and fast memory, by the transfer engine */                                 \
  X(transfer_latency_s)    /* of one transfer */                                                                     \
  X(ddr_bytes_per_s)       /* reads by the kernels themselves, all contexts together */                              \
  X(cache_bytes)           /* not staged; may be 0: buffers of a Program that take less in all, or all it touches, cost no reads of DDR */ \
  X(launch_s)              /* handing one kernel step to all contexts, and waiting for them */                       \
  X(macs_w4a16)                                                                                                      \
  X(macs_w4a8)                                                                                                       \
  X(macs_w8a16)                                                                                                      \
  X(macs_w8a8)                                                                                                       \
  X(scales)                /* dots of one group of K scaled and added up: rows * outputs * groups */                 \
  X(unpack_w4)             /* weights taken apart, once for each register tile of tokens */                          \
  X(unpack_w8)                                                                                                       \
  X(token_tile_a16)        /* tokens of such a tile */                                                               \
  X(token_tile_a8)                                                                                                   \
  X(macs_attention_a16)    /* QK and PV: 16-bit K/V or 16-bit activations */                                         \
  X(macs_attention_a8)     /* 8-bit K/V and activations */                                                           \
  X(exps_attention)        /* softmax: scores a cycle */                                                             \
  X(macs_vrc)              /* resolution compressor: stem, 1x1 convolutions, pool */                                 \
  X(macs_vrc_depthwise)                                                                                              \
  X(requant_vrc)           /* outputs of its convolutions scaled to 8 bits */                                        \
  X(norm)                  /* from here on: elements of the output a cycle. RMSNorm; a LayerNorm takes 1.5 times as long */ \
  X(quantize)                                                                                                        \
  X(activation)                                                                                                      \
  X(silu_mul)                                                                                                        \
  X(rope)                                                                                                            \
  X(kv_store)              /* keys and values */                                                                     \
  X(embed)                                                                                                           \
  X(patchify)                                                                                                        \
  X(copy)                  /* pixel shuffle */

struct HardwareSpec {
  std::string name;
  bool staged = false;  // kernels read fast memory only: every operand is transferred. Else they read DDR in place
#define HVL_FIGURE(name) double name = 0;
  HVL_SPEC_FIGURES(HVL_FIGURE)
#undef HVL_FIGURE
  int64_t budget() const { return int64_t(fast_bytes) - int64_t(reserved_bytes); }
};

// Throws Error(kValue) naming the figure that is not finite, not positive (reserved_bytes, latencies: negative) or not consistent.
void check_spec(const HardwareSpec& spec);

}  // namespace hvl

// One list of kernels. Declares every variant of every kernel and the table through which callers reach them.
//
// A kernel `foo` is a folder kernels/foo with a contract foo.h (struct FooArgs, what it computes, layouts) and one function a
// variant, all with the signature void(const FooArgs&, int32_t begin, int32_t end) noexcept: the half-open range of work
// units (what a unit is, the contract says) this call must do. Calls for disjoint ranges may run at the same time; the result does not
// depend on how the units are cut, nor on the variant: bit-identical.
#pragma once

#include <stdint.h>

#include "kernels/activation/activation.h"
#include "kernels/add/add.h"
#include "kernels/attention/attention.h"
#include "kernels/embed/embed.h"
#include "kernels/exp_sum/exp_sum.h"
#include "kernels/kv_store/kv_store.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/patchify/patchify.h"
#include "kernels/pixel_shuffle/pixel_shuffle.h"
#include "kernels/quantize/quantize.h"
#include "kernels/resize/resize.h"
#include "kernels/rope/rope.h"
#include "kernels/variants.h"
#include "kernels/vrc/vrc.h"

// X(isa, kernel, Args)
#define HVL_KERNELS(X, isa)               \
  X(isa, linear, LinearArgs)              \
  X(isa, quantize, QuantizeArgs)          \
  X(isa, quantize_i16, QuantizeI16Args)   \
  X(isa, norm, NormArgs)                  \
  X(isa, activation, ActivationArgs)      \
  X(isa, silu_mul, SiluMulArgs)           \
  X(isa, add, AddArgs)                    \
  X(isa, rope, RopeArgs)                  \
  X(isa, kv_store, KvStoreArgs)           \
  X(isa, attention, AttentionArgs)        \
  X(isa, embed, EmbedArgs)                \
  X(isa, exp_sum, ExpSumArgs)             \
  X(isa, pixel_shuffle, PixelShuffleArgs) \
  X(isa, resize_horizontal, ResizeArgs)   \
  X(isa, resize_vertical, ResizeArgs)     \
  X(isa, patchify, PatchifyArgs)          \
  X(isa, vrc_stem, VrcStemArgs)           \
  X(isa, vrc_depthwise, VrcDepthwiseArgs) \
  X(isa, vrc_pointwise, VrcPointwiseArgs) \
  X(isa, vrc_pool, VrcPoolArgs)

// Those of instruction sets that have only some.
#define HVL_KERNELS_portable(X, isa)      \
  X(isa, linear, LinearArgs)              \
  X(isa, attention, AttentionArgs)        \
  X(isa, resize_horizontal, ResizeArgs)   \
  X(isa, resize_vertical, ResizeArgs)     \
  X(isa, patchify, PatchifyArgs)          \
  X(isa, vrc_stem, VrcStemArgs)           \
  X(isa, vrc_depthwise, VrcDepthwiseArgs) \
  X(isa, vrc_pointwise, VrcPointwiseArgs) \
  X(isa, vrc_pool, VrcPoolArgs)
#define HVL_KERNELS_avxvnni(X, isa) X(isa, linear, LinearArgs) X(isa, attention, AttentionArgs)
#define HVL_KERNELS_amxint8(X, isa) X(isa, linear, LinearArgs) X(isa, attention, AttentionArgs)
#define HVL_KERNELS_i8mm(X, isa) X(isa, linear, LinearArgs) X(isa, attention, AttentionArgs)

// Those of the integer arithmetic (docs/integer_arithmetic.md): the same arguments, with an int32 in the place of every float. Plain C++
// (kernel_fixed, in kernels/*/fixed.cc); the others are integer in any case, or run on the host (exp_sum).
#define HVL_FIXED_KERNELS(X, isa)         \
  X(isa, linear, LinearArgs)              \
  X(isa, quantize, QuantizeArgs)          \
  X(isa, quantize_i16, QuantizeI16Args)   \
  X(isa, norm, NormArgs)                  \
  X(isa, activation, ActivationArgs)      \
  X(isa, silu_mul, SiluMulArgs)           \
  X(isa, add, AddArgs)                    \
  X(isa, rope, RopeArgs)                  \
  X(isa, kv_store, KvStoreArgs)           \
  X(isa, attention, AttentionArgs)        \
  X(isa, embed, EmbedArgs)

// Those of them, and of what is integer in any case, that are written in HVX (kernel_hvx, in kernels/*/hexagon_hvx.cc); only Hexagon has these.
#define HVL_HVX_KERNELS(X, isa)           \
  HVL_FIXED_KERNELS(X, isa)               \
  X(isa, pixel_shuffle, PixelShuffleArgs) \
  X(isa, resize_horizontal, ResizeArgs)   \
  X(isa, resize_vertical, ResizeArgs)     \
  X(isa, patchify, PatchifyArgs)          \
  X(isa, vrc_stem, VrcStemArgs)           \
  X(isa, vrc_depthwise, VrcDepthwiseArgs) \
  X(isa, vrc_pointwise, VrcPointwiseArgs) \
  X(isa, vrc_pool, VrcPoolArgs)

namespace hvl {

// What activations are: float32, or int32 with a fixed binary point.
enum class Arithmetic { kFloat, kInteger };

// The kernels of one instruction set.
struct KernelTable {
#define HVL_FIELD(isa, name, Args) void (*name)(const Args&, int32_t, int32_t) noexcept;
  HVL_KERNELS(HVL_FIELD, )
#undef HVL_FIELD
};

// Declared: kernel_isa for every instruction set and the kernels that it has.
#define HVL_DECLARE(isa, name, Args) void name##_##isa(const Args& args, int32_t begin, int32_t end) noexcept;
#define HVL_DECLARE_FULL(id, isa) HVL_KERNELS(HVL_DECLARE, isa)
#define HVL_DECLARE_PARTIAL(id, isa, base) HVL_KERNELS_##isa(HVL_DECLARE, isa)
HVL_FULL_ISAS(HVL_DECLARE_FULL)
HVL_PARTIAL_ISAS(HVL_DECLARE_PARTIAL)
HVL_FIXED_KERNELS(HVL_DECLARE, fixed)
HVL_HVX_KERNELS(HVL_DECLARE, hvx)
#undef HVL_DECLARE_PARTIAL
#undef HVL_DECLARE_FULL
#undef HVL_DECLARE

// Of the integer arithmetic too every instruction set has a table: what is integer anyway is its own.
const KernelTable& kernel_table(Isa isa, Arithmetic arithmetic = Arithmetic::kFloat) noexcept;

// Of an instruction set that uses another's kernel: the one that the kernel was written for. member: &KernelTable::linear.
template <typename Member>
Isa written_for(Isa isa, Member member) noexcept {
  for (int i = 0; i < kIsaCount; ++i) {
    if (kernel_table(Isa(i)).*member == kernel_table(isa).*member) return Isa(i);
  }
  return isa;
}

// Whether the image operations and the VRC are the TVM-compiled ones (else their reference bodies under every variant's name).
extern const bool hvl_tvm_kernels;

}  // namespace hvl

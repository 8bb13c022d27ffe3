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

// X(kernel, Args)
#define HVL_KERNELS(X)               \
  X(linear, LinearArgs)              \
  X(quantize, QuantizeArgs)          \
  X(quantize_i16, QuantizeI16Args)   \
  X(norm, NormArgs)                  \
  X(activation, ActivationArgs)      \
  X(silu_mul, SiluMulArgs)           \
  X(add, AddArgs)                    \
  X(rope, RopeArgs)                  \
  X(kv_store, KvStoreArgs)           \
  X(attention, AttentionArgs)        \
  X(embed, EmbedArgs)                \
  X(exp_sum, ExpSumArgs)             \
  X(pixel_shuffle, PixelShuffleArgs) \
  X(resize_horizontal, ResizeArgs)   \
  X(resize_vertical, ResizeArgs)     \
  X(patchify, PatchifyArgs)          \
  X(vrc_stem, VrcStemArgs)           \
  X(vrc_depthwise, VrcDepthwiseArgs) \
  X(vrc_pointwise, VrcPointwiseArgs) \
  X(vrc_pool, VrcPoolArgs)

namespace hvl {

#define HVL_DECLARE(name, Args)                                          \
  void name##_reference(const Args& args, int32_t begin, int32_t end) noexcept;  \
  void name##_avx2(const Args& args, int32_t begin, int32_t end) noexcept;       \
  void name##_avx512vnni(const Args& args, int32_t begin, int32_t end) noexcept;
HVL_KERNELS(HVL_DECLARE)
#undef HVL_DECLARE

// The kernels of one instruction set.
struct KernelTable {
#define HVL_FIELD(name, Args) void (*name)(const Args&, int32_t, int32_t) noexcept;
  HVL_KERNELS(HVL_FIELD)
#undef HVL_FIELD
};

const KernelTable& kernel_table(Isa isa) noexcept;

// Whether the image operations and the VRC are the TVM-compiled ones (else their reference bodies under every variant's name).
extern const bool hvl_tvm_kernels;

}  // namespace hvl

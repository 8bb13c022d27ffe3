#include "hexagon/dsp/kernels.h"

namespace hvl {
namespace {

constexpr KernelTable make_table() {
  KernelTable table = {};  // no exp_sum, which runs on the host
#define HVL_SET(isa, name, Args) table.name = &name##_##isa;
#if defined(__hexagon__)
  HVL_HVX_KERNELS(HVL_SET, hvx)
#else  // the same program on the host, under its sanitizers
  HVL_FIXED_KERNELS(HVL_SET, fixed)
  HVL_SET(reference, pixel_shuffle, )
  HVL_SET(reference, resize_horizontal, )
  HVL_SET(reference, resize_vertical, )
  HVL_SET(reference, patchify, )
  HVL_SET(reference, vrc_stem, )
  HVL_SET(reference, vrc_depthwise, )
  HVL_SET(reference, vrc_pointwise, )
  HVL_SET(reference, vrc_pool, )
#endif
#undef HVL_SET
  return table;
}
constexpr KernelTable kTable = make_table();

}  // namespace

const KernelTable& dsp_kernels() { return kTable; }

}  // namespace hvl

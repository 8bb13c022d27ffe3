#include "kernels/registry.h"

namespace hvl {
namespace {

#define HVL_ADDRESS(isa, name, Args) &name##_##isa,
#define HVL_FULL_TABLE(id, isa) constexpr KernelTable table_##isa = {HVL_KERNELS(HVL_ADDRESS, isa)};
HVL_FULL_ISAS(HVL_FULL_TABLE)

#define HVL_REPLACE(isa, name, Args) table.name = &name##_##isa;
#define HVL_PARTIAL_TABLE(id, isa, base)  \
  constexpr KernelTable table_##isa = [] { \
    KernelTable table = table_##base;      \
    HVL_KERNELS_##isa(HVL_REPLACE, isa)    \
    return table;                          \
  }();
HVL_PARTIAL_ISAS(HVL_PARTIAL_TABLE)

#define HVL_INTEGER_TABLE(id, isa)             \
  constexpr KernelTable integer_table_##isa = [] { \
    KernelTable table = table_##isa;             \
    HVL_FIXED_KERNELS(HVL_REPLACE, fixed)        \
    return table;                                \
  }();
HVL_ISAS(HVL_INTEGER_TABLE)

}  // namespace

const KernelTable& kernel_table(Isa isa, Arithmetic arithmetic) noexcept {
#define HVL_TABLE(id, isa) &table_##isa,
  static constexpr const KernelTable* kTables[kIsaCount] = {HVL_ISAS(HVL_TABLE)};
#define HVL_INTEGER(id, isa) &integer_table_##isa,
  static constexpr const KernelTable* kIntegerTables[kIsaCount] = {HVL_ISAS(HVL_INTEGER)};
  return *(arithmetic == Arithmetic::kInteger ? kIntegerTables : kTables)[static_cast<int>(isa)];
}

#ifdef HVL_TVM_KERNELS
extern const bool hvl_tvm_kernels = true;
#else
extern const bool hvl_tvm_kernels = false;
#endif

}  // namespace hvl

#include "kernels/quantize/quantize_body.h"

namespace hvl {

void quantize_neondot(const QuantizeArgs& args, int32_t begin, int32_t end) noexcept { quantize_rows<PlainGroup>(args, begin, end); }

void quantize_i16_neondot(const QuantizeI16Args& args, int32_t begin, int32_t end) noexcept { quantize_rows_i16(args, begin, end); }

}  // namespace hvl

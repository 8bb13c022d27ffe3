#include "kernels/embed/embed_body.h"

namespace hvl {

void embed_neondot(const EmbedArgs& args, int32_t begin, int32_t end) noexcept { embed_rows(args, begin, end); }

}  // namespace hvl

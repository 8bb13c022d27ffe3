// The register blocks of attention_body.h for the portable set: two rows or one by sixteen keys or values, dots by TVM (kernels/tvm/dots.py).
// Included by attention_body.h in their place.

template <Dots kDots, int R, int W>
static void qk_block(const uint8_t* q, int64_t q_stride, const int32_t*, const uint8_t* k, int64_t, int32_t steps, bool first_run, float* scores) {
  static_assert(R <= 2 && W == 1 && kDots != Dots::kBytes);
  constexpr auto kOne = kDots == Dots::kWords ? hvl_tvm_qk_words_1_portable : hvl_tvm_qk_wide_1_portable;
  constexpr auto kTwo = kDots == Dots::kWords ? hvl_tvm_qk_words_2_portable : hvl_tvm_qk_wide_2_portable;
  (R == 1 ? kOne : kTwo)(reinterpret_cast<const int16_t*>(q), k, scores, q_stride / 2, kAttentionChunk, steps, first_run);
}

template <Dots kDots, int R, int W>
static void pv_block(const uint8_t* p, const uint8_t* v, int64_t block_bytes, int64_t step, int blocks, const float* scale, float* o, int64_t o_stride) {
  static_assert(R <= 2 && W == 1 && kDots != Dots::kBytes);
  constexpr auto kOne = kDots == Dots::kWords ? hvl_tvm_pv_words_1_portable : hvl_tvm_pv_wide_1_portable;
  constexpr auto kTwo = kDots == Dots::kWords ? hvl_tvm_pv_words_2_portable : hvl_tvm_pv_wide_2_portable;
  constexpr int kRunBlocks = kAttentionRun / kKvKeyBlock;
  alignas(16) int32_t dots[R][16];
  for (; blocks > 0; blocks -= kRunBlocks, ++scale, v += kRunBlocks * block_bytes, p += kAttentionRun * value_bytes(kDots)) {
    (R == 1 ? kOne : kTwo)(reinterpret_cast<const int16_t*>(p), v, dots[0], kScoreBytes / 2, block_bytes, step, at_most(blocks, kRunBlocks));
    for (int r = 0; r < R; ++r) {
      float* at = o + r * o_stride;
      vec::store(at, vec::fma(vec::to_float(vec::ints_load(dots[r])), vec::set1(scale[r * kRuns]), vec::load(at)));
    }
  }
}

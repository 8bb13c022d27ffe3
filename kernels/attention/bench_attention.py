"""Attention of one tile (GFLOP/s in extra_info), of a prefill chunk, and of one decoded token (GB/s of cache read)."""

import numpy as np
import pytest
from hypervl_engine import _testing

# rows, keys, heads, kv_heads, head_dim, causal, dtype
SHAPES = {
    "tile_large_256": (256, 256, 16, 16, 64, False, np.float32),
    "tile_base_196": (196, 196, 12, 12, 64, False, np.float32),
    "tile_so400m_256": (256, 256, 16, 16, 72, False, np.float32),
    "prefill_128_at_384": (128, 512, 16, 8, 128, True, np.float16),
    "decode_512": (1, 512, 16, 8, 128, True, np.float16),
    "decode_4096": (1, 4096, 16, 8, 128, True, np.float16),
}


@pytest.mark.parametrize("variant", _testing.available_variants())
@pytest.mark.parametrize("shape", SHAPES)
def test_attention(benchmark, variant: str, shape: str) -> None:  # type: ignore[no-untyped-def]
    rows, keys, heads, kv_heads, head_dim, causal, dtype = SHAPES[shape]
    if variant == "reference" and keys > 512:
        pytest.skip("slow, and nobody waits for it")
    rng = np.random.default_rng(0)
    q = rng.normal(size=(rows, heads * head_dim)).astype(np.float32)
    k_cache = rng.normal(size=(kv_heads, (keys + 15) // 16, head_dim, 16)).astype(dtype)
    v_cache = rng.normal(size=(kv_heads, (keys + 15) // 16 * 16, head_dim)).astype(dtype)
    out = np.empty_like(q)
    benchmark(
        _testing.attention,
        variant,
        q,
        k_cache,
        v_cache,
        heads,
        keys - rows if causal else 0,
        keys,
        causal,
        head_dim**-0.5,
        out,
    )
    if benchmark.stats:
        seconds = benchmark.stats.stats.min
        pairs = rows * keys - (rows * (rows - 1) // 2 if causal else 0)
        benchmark.extra_info["gflop_s"] = 4 * pairs * heads * head_dim / seconds / 1e9
        benchmark.extra_info["cache_gb_s"] = (k_cache.nbytes + v_cache.nbytes) / seconds / 1e9

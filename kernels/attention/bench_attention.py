"""Attention of one tile, of a prefill chunk, and of one decoded token. Bound by dot products of bytes or words, see attention_body.h."""

import numpy as np
import pytest
from hypervl_engine import _testing

# rows, keys, heads, kv_heads, head_dim, causal
SHAPES = {
    "tile_large_256": (256, 256, 16, 16, 64, False),
    "tile_large_576": (576, 576, 16, 16, 64, False),
    "tile_base_196": (196, 196, 12, 12, 64, False),
    "tile_so400m_256": (256, 256, 16, 16, 72, False),
    "prefill_128_at_384": (128, 512, 16, 8, 128, True),
    "prefill_128_at_896": (128, 1024, 16, 8, 128, True),
    "decode_512": (1, 512, 16, 8, 128, True),
    "decode_4096": (1, 4096, 16, 8, 128, True),
}


@pytest.mark.parametrize("variant", _testing.available_variants("attention"))
@pytest.mark.parametrize("bits", [(16, 16), (8, 16), (8, 8)])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention(benchmark, limit, variant: str, shape: str, bits: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    rows, keys, heads, kv_heads, head_dim, causal = SHAPES[shape]
    if variant == "reference" and keys > 512:
        pytest.skip("slow, and nobody waits for it")
    rng = np.random.default_rng(0)
    q = rng.normal(size=(rows, heads * head_dim)).astype(np.float32)
    k, v = rng.normal(size=(2, keys, kv_heads * head_dim)).astype(np.float32)
    cache = np.zeros((2, kv_heads, (keys + 15) // 16, _testing.kv_block_bytes(head_dim, bits[0])), np.uint8)
    _testing.kv_store("reference", k, v, 0, cache[0], cache[1], head_dim, bits[0])
    out = np.empty_like(q)
    position = keys - rows if causal else 0
    pairs = rows * keys - (rows * (rows - 1) // 2 if causal else 0)
    limit("int8" if bits == (8, 8) else "int16", 4 * pairs * heads * head_dim, variant=variant)
    benchmark(
        _testing.attention, variant, q, cache[0], cache[1], head_dim, *bits, heads, position, keys, causal, head_dim**-0.5, out
    )

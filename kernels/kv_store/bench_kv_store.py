"""Keys and values of one tile (16 heads of 64), of a prefill chunk and of one decoded token (8 heads of 128)."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("kv_store"))
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("rows", "heads", "head_dim"), [(256, 16, 64), (128, 8, 128), (1, 8, 128)])
def test_kv_store(benchmark, variant: str, bits: int, rows: int, heads: int, head_dim: int) -> None:  # type: ignore[no-untyped-def]
    k = np.random.default_rng(0).normal(size=(rows, heads * head_dim)).astype(np.float32)
    cache = np.zeros((2, heads, 16, _testing.kv_block_bytes(head_dim, bits)), np.uint8)
    benchmark(_testing.kv_store, variant, k, k, 0, cache[0], cache[1], head_dim, bits)

"""Keys and values of one tile in float32 (16 heads of 64), and of one decoded token in float16 (8 heads of 128)."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants())
@pytest.mark.parametrize(
    ("rows", "heads", "head_dim", "dtype"),
    [(256, 16, 64, np.float32), (128, 8, 128, np.float16), (1, 8, 128, np.float16)],
)
def test_kv_store(benchmark, variant: str, rows: int, heads: int, head_dim: int, dtype: type) -> None:  # type: ignore[no-untyped-def]
    k = np.ones((rows, heads * head_dim), np.float32)
    k_cache = np.empty((heads, 16, head_dim, 16), dtype)
    v_cache = np.empty((heads, 256, head_dim), dtype)
    benchmark(_testing.kv_store, variant, k, k, 0, k_cache, v_cache)

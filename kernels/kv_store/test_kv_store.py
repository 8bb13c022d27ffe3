"""The KV cache layout: blocks of 16 keys by column, values by row, rounded halves, zeros to the block's end."""

import numpy as np
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants()
MARK = 7.0  # what the cache holds before


@settings(max_examples=80, deadline=None)
@given(
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 5, 16, 64, 72, 80, 128]),
    rows=st.integers(0, 50),
    position=st.integers(0, 45),
    half=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_layout(heads: int, head_dim: int, rows: int, position: int, half: bool, seed: int) -> None:
    capacity = 112
    dtype = np.float16 if half else np.float32
    rng = np.random.default_rng(seed)
    k, v = (rng.normal(size=(2, rows, heads * head_dim)) * rng.choice([1e-7, 1.0, 1e4])).astype(np.float32)
    expected_k = np.full((heads, capacity, head_dim), MARK, dtype)
    expected_v = expected_k.copy()
    if rows > 0:
        padded_end = (position + rows + 15) // 16 * 16
        with np.errstate(over="ignore"):
            for expected, new in ((expected_k, k), (expected_v, v)):
                expected[:, position : position + rows] = (
                    new.reshape(rows, heads, head_dim).transpose(1, 0, 2).astype(dtype)
                )
                expected[:, position + rows : padded_end] = 0
    expected_k = expected_k.reshape(heads, capacity // 16, 16, head_dim).transpose(0, 1, 3, 2)
    cut = rng.integers(0, heads + 1)
    for variant in VARIANTS:
        k_cache = np.full((heads, capacity // 16, head_dim, 16), MARK, dtype)
        v_cache = np.full((heads, capacity, head_dim), MARK, dtype)
        for part in ((cut, heads), (0, cut)):
            _testing.kv_store(variant, k, v, position, k_cache, v_cache, part)
        assert np.array_equal(k_cache, expected_k)
        assert np.array_equal(v_cache, expected_v)
        if rows == 0:
            continue
        # Through a small cache of the blocks it touches, copied from the large one and back.
        first = position // 16
        blocks = slice(first, padded_end // 16)
        k_cache = np.full((heads, capacity // 16, head_dim, 16), MARK, dtype)
        v_cache = np.full((heads, capacity, head_dim), MARK, dtype)
        k_window = k_cache[:, blocks].copy()
        v_window = v_cache[:, 16 * first : padded_end].copy()
        _testing.kv_store(variant, k, v, position % 16, k_window, v_window)
        k_cache[:, blocks] = k_window
        v_cache[:, 16 * first : padded_end] = v_window
        assert np.array_equal(k_cache, expected_k)
        assert np.array_equal(v_cache, expected_v)

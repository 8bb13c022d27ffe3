"""The KV cache: rows rounded to integers of one scale, in the layout of kv_store.h, zeros to the block's end."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.kv_store.kv_oracle import LIMITS, from_side, heads_first, padded, side, to_integers

VARIANTS = _testing.available_variants("kv_store")
MARK = 0x5A  # every byte of what the cache holds before


def empty(heads: int, capacity: int, head_dim: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    k = np.full((heads, capacity // 16, _testing.kv_block_bytes(head_dim, bits)), MARK, np.uint8)
    return k, k.copy()


def expected_side(x: np.ndarray, heads: int, position: int, capacity: int, head_dim: int, bits: int, keys_in_lanes: bool) -> np.ndarray:
    values, scales = from_side(empty(heads, capacity, head_dim, bits)[0], head_dim, bits, keys_in_lanes)
    if len(x):
        new, new_scales = to_integers(heads_first(x, heads), LIMITS[bits])
        end, padded_end = position + len(x), (position + len(x) + 15) // 16 * 16
        values[:, position:padded_end] = 0
        values[:, position:end, :head_dim] = new
        scales[:, position:padded_end] = 0
        scales[:, position:end] = new_scales
    return side(values, scales, bits, keys_in_lanes)


@settings(max_examples=120, deadline=None)
@given(
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 5, 16, 40, 64, 72, 80, 128, 256]),
    rows=st.integers(0, 50),
    position=st.integers(0, 45),
    bits=st.sampled_from([8, 16]),
    size=st.sampled_from([1e-31, 1e-7, 1.0, 1e30]),
    seed=st.integers(0, 2**31),
)
def test_layout(heads: int, head_dim: int, rows: int, position: int, bits: int, size: float, seed: int) -> None:
    capacity = 112
    rng = np.random.default_rng(seed)
    k, v = (rng.normal(size=(2, rows, heads * head_dim)) * size).astype(np.float32)
    if rows > 0:
        k[rng.integers(rows)] = 0
    expected_k = expected_side(k, heads, position, capacity, head_dim, bits, True)
    expected_v = expected_side(v, heads, position, capacity, head_dim, bits, False)
    cut = rng.integers(0, heads + 1)
    for variant in VARIANTS:
        k_cache, v_cache = empty(heads, capacity, head_dim, bits)
        for part in ((cut, heads), (0, cut)):
            _testing.kv_store(variant, k, v, position, k_cache, v_cache, head_dim, bits, part)
        assert np.array_equal(k_cache, expected_k)
        assert np.array_equal(v_cache, expected_v)
        if rows == 0:
            continue
        # Through a small cache of the blocks it touches, copied from the large one and back.
        blocks = slice(position // 16, (position + rows + 15) // 16)
        k_cache, v_cache = empty(heads, capacity, head_dim, bits)
        k_window, v_window = k_cache[:, blocks].copy(), v_cache[:, blocks].copy()
        _testing.kv_store(variant, k, v, position % 16, k_window, v_window, head_dim, bits)
        k_cache[:, blocks] = k_window
        v_cache[:, blocks] = v_window
        assert np.array_equal(k_cache, expected_k)
        assert np.array_equal(v_cache, expected_v)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_one_by_one_equal_rows_at_once(variant: str, bits: int) -> None:
    k, v = np.random.default_rng(0).normal(size=(2, 37, 2 * 72)).astype(np.float32)
    whole, single = empty(2, 48, 72, bits), empty(2, 48, 72, bits)
    _testing.kv_store(variant, k, v, 0, *whole, 72, bits)
    for row in range(37):
        _testing.kv_store(variant, k[row : row + 1], v[row : row + 1], row, *single, 72, bits)
    assert all(np.array_equal(a, b) for a, b in zip(whole, single, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_values_that_are_not_finite_make_a_row_of_scale_nan(variant: str, bits: int) -> None:
    k = np.ones((4, 40), np.float32)
    for row, value in enumerate((np.nan, np.inf, -np.inf)):
        k[row, 7 * row] = value
    k_cache, v_cache = empty(1, 16, 40, bits)
    _testing.kv_store(variant, k, k, 0, k_cache, v_cache, 40, bits)
    for cache, keys_in_lanes in ((k_cache, True), (v_cache, False)):
        values, scales = from_side(cache, 40, bits, keys_in_lanes)
        assert np.isnan(scales[0, :3]).all()
        assert not np.signbit(scales[0, :3]).any()  # attention takes the largest weight by its bits
        assert not values[0, :3].any()
        assert (values[0, 3, :40] == LIMITS[bits]).all()
        assert scales[0, 3] == np.float32(1) / np.float32(LIMITS[bits])
        assert values.shape[2] == padded(40)

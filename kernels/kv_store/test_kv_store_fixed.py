"""Keys and values in 8 bits of the integer arithmetic: a numpy oracle, exactly."""

from itertools import pairwise

import numpy as np
import pytest
from hypervl_engine import _testing

from kernels.common import fixed_oracle as fixed
from kernels.kv_store.kv_oracle import heads_first, padded, side

QUOTIENT = 23


def to_integers(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., n) -> integers, mantissa and exponent of the scales (...)."""
    most = fixed.magnitude(x).max(axis=-1)
    lift = 31 - fixed.width(most)
    top = most << lift
    safe = np.where(most > 0, top, 1 << 30)
    factor = np.where(most > 0, (127 << (31 + QUOTIENT)) // safe, 0)
    lifted = np.where(most[..., None] > 0, x << lift[..., None], 0)
    values = np.clip(fixed.round_down(fixed.mul31(lifted, factor[..., None]), QUOTIENT), -127, 127)
    scale = (top << 7) // 127
    mantissa, exponent = (scale + (1 << 15)) >> 16, -6 - lift
    over = mantissa > 32767
    mantissa = np.where(over, (scale + (1 << 16)) >> 17, mantissa)
    return values, np.where(most > 0, mantissa, 0), np.where(most > 0, exponent + over, fixed.NO_SCALE)


def stored(x: np.ndarray, heads: int, capacity: int, keys_in_lanes: bool) -> np.ndarray:
    """What a cache of `capacity` positions holds after x (rows, heads * head_dim) was stored from position 0 on."""
    values, mantissa, exponent = to_integers(heads_first(x, heads))
    rows, head_dim = values.shape[1:]
    wide = np.zeros((heads, capacity, padded(head_dim)), np.int64)
    wide[:, :rows, :head_dim] = values
    words = np.full((heads, capacity), fixed.words(0, fixed.NO_SCALE), np.int32)
    words[:, :rows] = fixed.words(mantissa, exponent)
    data = side(wide, np.zeros((heads, capacity)), 8, keys_in_lanes)
    data[:, :, :64] = words.reshape(heads, -1, 16).view(np.uint8).reshape(heads, -1, 64)
    return data


def store(k: np.ndarray, v: np.ndarray, position: int, k_cache: np.ndarray, v_cache: np.ndarray, head_dim: int) -> None:
    _testing.kv_store("fixed", fixed.view(k), fixed.view(v), position, k_cache, v_cache, head_dim, 8)


@pytest.mark.parametrize("head_dim", [8, 64, 72, 128])
@pytest.mark.parametrize("size", [0, 3, 16, 31])
def test_equals_the_oracle(head_dim: int, size: int) -> None:
    """Whole, and in pieces that begin within blocks."""
    rng = np.random.default_rng(head_dim + size)
    heads, rows, capacity = 3, 37, 48
    k, v = rng.integers(-(1 << size), 1 << size, (2, rows, heads * head_dim)) >> rng.integers(0, 8, (2, rows, 1))
    k[3] = 0
    expected = [stored(x, heads, capacity, keys) for x, keys in ((k, True), (v, False))]
    for cuts in ([0, rows], [0, 1, 16, 21, rows]):
        caches = np.full((2, *expected[0].shape), 0x55, np.uint8)
        for begin, end in pairwise(cuts):
            store(k[begin:end], v[begin:end], begin, *caches, head_dim)
        np.testing.assert_array_equal(caches[0], expected[0])
        np.testing.assert_array_equal(caches[1], expected[1])


def test_integers_are_within_half_a_step() -> None:
    x = fixed.activations(np.random.default_rng(0).normal(size=(50, 128)) * np.exp2(np.arange(-10, 15, 0.5))[:, None])
    values, mantissa, exponent = to_integers(x)
    scale = mantissa * np.exp2(exponent + fixed.FRACTION)
    assert (np.abs(values * scale[:, None] - x) <= 0.503 * scale[:, None] + 1).all()
    assert (np.abs(values).max(axis=1) == 127).all()

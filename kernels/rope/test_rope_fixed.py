"""Norm and rotation of heads in the integer arithmetic: a numpy oracle, exactly, and its distance from float64."""

import numpy as np
import pytest
from hypervl_engine import _testing

from kernels.common import fixed_oracle as fixed


def tables(positions: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of position * frequency, 31 fraction bits."""
    angles = np.arange(positions)[:, None] * 1e6 ** (-np.arange(half) / half)
    cos, sin = (np.minimum(np.floor(f(angles) * 2.0**31 + 0.5), fixed.MOST).astype(np.int64) for f in (np.cos, np.sin))
    return cos, sin


def oracle(
    x: np.ndarray, weight: tuple[np.ndarray, np.ndarray] | None, eps: float, cos: np.ndarray, sin: np.ndarray, heads: int
) -> np.ndarray:
    grouped = x.reshape(len(x), heads, -1).copy()
    if weight is not None:
        for row in grouped:
            for head in range(heads):
                row[head] = fixed.normed(row[head], weight, eps)
    a, b = np.split(grouped, 2, axis=-1)
    c, s = cos[:, None], sin[:, None]
    first = fixed.saturate(fixed.mul31(a, c) - fixed.mul31(b, s))
    second = fixed.saturate(fixed.mul31(b, c) + fixed.mul31(a, s))
    return np.concatenate([first, second], axis=-1).reshape(x.shape)


@pytest.mark.parametrize("head_dim", [2, 32, 128, 256])
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("size", [3, 17, 31])
def test_equals_the_oracle(head_dim: int, normed: bool, size: int) -> None:
    rng = np.random.default_rng(head_dim)
    rows, heads, position = 5, 3, 11
    x = rng.integers(-(1 << size), 1 << size, (rows, heads * head_dim))
    weight = fixed.scaled(rng.normal(1, 0.5, head_dim)) if normed else None
    cos, sin = tables(position + rows, head_dim // 2)
    out = fixed.view(x)
    packed = None if weight is None else fixed.words(*weight).view(np.float32)
    for cut in ((0, 2), (2, rows)):
        _testing.rope("fixed", out, packed, 1e-6, fixed.view(cos), fixed.view(sin), position, heads, cut)
    np.testing.assert_array_equal(fixed.ints(out), oracle(x, weight, 1e-6, cos[position:], sin[position:], heads))


def test_distance_from_float64() -> None:
    rng = np.random.default_rng(0)
    rows, heads, head_dim, position = 40, 4, 128, 4000
    x = fixed.activations(rng.normal(size=(rows, heads * head_dim)) * 3)
    weight = rng.normal(1, 0.5, head_dim)
    cos, sin = tables(position + rows, head_dim // 2)
    out = fixed.view(x)
    packed = fixed.words(*fixed.scaled(weight)).view(np.float32)
    _testing.rope("fixed", out, packed, 1e-6, fixed.view(cos), fixed.view(sin), position, heads)
    wide = fixed.floats(x).reshape(rows, heads, head_dim)
    wide = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * weight
    turn = np.exp(1j * (position + np.arange(rows))[:, None] * 1e6 ** (-np.arange(64) / 64))[:, None]
    turned = (wide[..., :64] + 1j * wide[..., 64:]) * turn
    exact = np.concatenate([turned.real, turned.imag], axis=-1).reshape(rows, -1)
    bound = 2.0**-15 * 1.5 + np.abs(turned).max() * 2.0**-14
    assert np.abs(fixed.floats(fixed.ints(out)) - exact).max() <= bound

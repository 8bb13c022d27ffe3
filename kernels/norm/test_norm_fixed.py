"""LayerNorm and RMSNorm of the integer arithmetic: a numpy oracle, exactly, and their distance from float64."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.common import fixed_oracle as fixed


def oracle(x: np.ndarray, weight: tuple[np.ndarray, np.ndarray], bias: np.ndarray | None, eps: float) -> np.ndarray:
    out = np.empty_like(x)
    for r, row in enumerate(x):
        mean = (int(row.sum()) + len(row) // 2) // len(row) if bias is not None else 0
        out[r] = fixed.normed(fixed.saturate(row - mean), weight, eps)
    return out if bias is None else fixed.saturate(out + bias)


def run(x: np.ndarray, weight: tuple[np.ndarray, np.ndarray], bias: np.ndarray | None, eps: float) -> np.ndarray:
    out = fixed.view(np.zeros_like(x))
    packed_bias = None if bias is None else fixed.view(bias)
    for row in range(len(x)):
        _testing.norm("fixed", fixed.view(x), fixed.words(*weight).view(np.float32), packed_bias, eps, out, (row, row + 1))
    return fixed.ints(out)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 3), cols=st.integers(1, 300), seed=st.integers(0, 2**31), layer=st.booleans(), size=st.integers(0, 31),
    eps=st.sampled_from([0.0, 1e-12, 1e-6, 1e-5, 0.5, 1e4]), weight_size=st.sampled_from([1e-6, 1.0, 300.0, 1e6]),
)  # fmt: skip
def test_equals_the_oracle(rows: int, cols: int, seed: int, layer: bool, size: int, eps: float, weight_size: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-(1 << size), 1 << size, (rows, cols)) >> rng.integers(0, 16, (1, cols))
    x[0] = rng.choice([0, fixed.LEAST, fixed.MOST, x[0, 0]])  # all the same
    weight = fixed.scaled(rng.normal(0, weight_size, cols) * rng.integers(0, 2, cols))
    bias = rng.integers(-(1 << 20), 1 << 20, cols) if layer else None
    np.testing.assert_array_equal(run(x, weight, bias, eps), oracle(x, weight, bias, eps))


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("outlier", [1.0, 100.0, 30000.0])
@pytest.mark.parametrize("size", [0.02, 1.0])
def test_distance_from_float64(layer: bool, outlier: float, size: float) -> None:
    """One value may be thousands of times the others: they keep their precision, to half a unit of the result and 2^-15 of each."""
    rng = np.random.default_rng(2)
    cols = 2048
    values = rng.normal(size=(4, cols)) * size
    values[:, 7] = outlier
    x = fixed.activations(values)
    weight_values, bias = rng.normal(1, 0.3, cols), fixed.activations(rng.normal(size=cols))
    weight = fixed.scaled(weight_values)
    got = fixed.floats(run(x, weight, bias if layer else None, 1e-6))
    exact = fixed.floats(x)
    if layer:
        exact = exact - exact.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-6)
    product = exact * scale * weight_values
    mean_rounding = 0.5 * 2.0**-15 * scale * np.abs(weight_values) if layer else 0
    bound = 0.51 * 2.0**-15 + np.abs(product) * 2.0**-14 + mean_rounding + np.abs(weight_values) * 2.0**-22
    assert (np.abs(got - (product + (fixed.floats(bias) if layer else 0))) <= bound).all()

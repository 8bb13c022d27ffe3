"""Quantised rows of the integer arithmetic: a numpy oracle, exactly."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.common import fixed_oracle as fixed


def oracle(x: np.ndarray, group: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, cols) activations -> values (rows, groups, group), exponents (rows, groups)."""
    rows, cols = x.shape
    groups = -(-cols // group)
    wide = np.zeros((rows, groups * group), np.int64)
    wide[:, :cols] = x
    grouped = wide.reshape(rows, groups, group)
    exponents = np.maximum(0, fixed.row_width(grouped) - (bits - 1))
    limit = (1 << (bits - 1)) - 1
    return np.clip(fixed.round_down(grouped, exponents[..., None]), -limit, limit), exponents


def planes(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The bytes and sums that a kernel writes for (rows, groups, group) values."""
    rows = len(values)
    high = values >> 8 if bits == 16 else values
    parts = [high, values & 255] if bits == 16 else [high]
    data = np.concatenate([(p & 255).reshape(rows, -1) for p in parts], axis=1).astype(np.uint8)
    return data, np.stack([values.sum(-1), high.sum(-1)], axis=-1).astype(np.int32)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4), cols=st.integers(1, 600), group=st.sampled_from([32, 64, 128, 256, 384, 512]), bits=st.sampled_from([16, 8]),
    seed=st.integers(0, 2**31), size=st.integers(0, 31),
)  # fmt: skip
def test_equals_the_oracle(rows: int, cols: int, group: int, bits: int, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-(1 << size), 1 << size, (rows, cols))
    x[:, rng.integers(0, cols)] = rng.choice([fixed.LEAST, fixed.MOST, 0, 1 << max(0, size - 1)])
    values, exponents = oracle(x, group, bits)
    q, scales, sums = _testing.quantize(fixed.view(x), group, bits, "fixed")
    data, expected_sums = planes(values, bits)
    np.testing.assert_array_equal(q, data)
    np.testing.assert_array_equal(scales.view(np.int32), exponents)
    np.testing.assert_array_equal(sums, expected_sums)
    for row in range(rows):  # rows may be done one by one
        part = _testing.quantize(fixed.view(x), group, bits, "fixed", row, row + 1)
        np.testing.assert_array_equal(part[0][row], q[row])


@pytest.mark.parametrize(("bits", "steps"), [(16, 2**14), (8, 2**6)])
def test_rounding_costs_half_a_step_of_the_largest_value(bits: int, steps: int) -> None:
    x = fixed.activations(np.random.default_rng(0).normal(size=(5, 128)) * 30)
    values, exponents = oracle(x, 128, bits)
    error = np.abs(values * 2.0 ** exponents[..., None] - x[:, None, :])
    assert (error.max(-1) <= np.abs(x).max(-1, keepdims=True) / steps / 2 + 0.5).all()


@pytest.mark.parametrize("fraction", [14, 13, 10])
def test_pixels_keep_their_values(fraction: int) -> None:
    x = np.random.default_rng(1).integers(-32768, 32768, (3, 100)).astype(np.int16)
    q, scales, sums = _testing.quantize_i16(x, 2.0**-fraction, 64, "fixed")
    values = np.zeros((3, 2, 64), np.int64)
    values.reshape(3, -1)[:, :100] = x
    data, expected_sums = planes(values, 16)
    np.testing.assert_array_equal(q, data)
    np.testing.assert_array_equal(sums, expected_sums)
    np.testing.assert_array_equal(scales.view(np.int32), fixed.FRACTION - fraction)

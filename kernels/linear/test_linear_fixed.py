"""The linear layer of the integer arithmetic: a numpy oracle, exactly, and its distance from float64."""

from typing import Any

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.common import fixed_oracle as fixed
from kernels.quantize.test_quantize_fixed import oracle as quantised

GUARD = 6


def make(rng: np.random.Generator, rows: int, cols: int, bits: int, group: int, zero_points: bool, scale_bits: int, scale: float) -> Any:
    """Weights (rows, cols) int8, scales and zero points (rows, groups), and the packed bytes."""
    limit, groups = 1 << (bits - 1), -(-cols // group)
    weight = rng.integers(-limit, limit, (rows, cols), np.int8)
    scales = (scale * np.exp(rng.normal(0, 0.5, (rows, groups)))).astype(np.float16).astype(np.float32)
    if scale_bits == 32:
        scales = (scales * np.float32(1.0001)).astype(np.float32)
    zeros = rng.integers(-limit, limit, (rows, groups), np.int8) if zero_points else None
    return weight, scales, zeros, _testing.pack_linear(weight, scales, bits, group, scale_bits, zero_points=zeros)


def oracle(x: Any, weight: Any, scales: Any, zeros: Any, group: int, x_bits: int, scale_bits: int, bias: Any, residual: Any) -> Any:
    """(tokens, cols) activations -> (tokens, rows)."""
    rows, cols = weight.shape
    groups = scales.shape[1]
    values, exponents = quantised(x, group, x_bits)
    wide = np.zeros((rows, groups * group), np.int64)
    wide[:, :cols] = weight
    w = wide.reshape(rows, groups, group) - (0 if zeros is None else zeros.astype(np.int64)[..., None])
    w.reshape(rows, -1)[:, cols:] = 0
    mantissa, exponent = fixed.weight_scales(scales, scale_bits)
    largest = exponents.max(axis=1)
    sums = np.full((len(x), rows), groups // 2, np.int64)
    for g in range(groups):
        dots = values[:, g] @ w[:, g].T
        below = (largest - exponents[:, g])[:, None]
        sums = fixed.saturate(sums + fixed.shift_down(fixed.mul16(dots, mantissa[:, g]), below - 16 - GUARD - exponent[:, g]))
    y = fixed.round_down(sums, GUARD - largest[:, None])
    y = y if bias is None else fixed.saturate(y + bias)
    return y if residual is None else fixed.saturate(residual + y)


def run(x: Any, packed: Any, rows: int, cols: int, bits: int, group: int, x_bits: int, scale_bits: int, bias: Any, residual: Any,
        cuts: tuple[tuple[int, int], ...] = ((0, -1),)) -> Any:  # fmt: skip
    q = _testing.quantize(fixed.view(x), group, x_bits, "fixed")
    out = np.zeros((len(x), rows), np.float32)
    wrapped = [None if a is None else fixed.view(a) for a in (bias, residual)]
    for begin, end in cuts:
        _testing.linear(*q, cols, x_bits, packed, rows, bits, group, scale_bits, *wrapped, out, "fixed", begin, end)
    return fixed.ints(out)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    bits, x_bits, scale_bits = data.draw(st.sampled_from([(4, 16, 16), (4, 16, 32), (8, 16, 16), (4, 8, 16), (8, 8, 32)]))
    zero_points = data.draw(st.booleans())
    group = data.draw(st.sampled_from([32, 64, 128] if bits == 4 or zero_points else [128, 256, 384, 512]))
    rows, cols, tokens = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 1100)), data.draw(st.sampled_from([1, 3, 70]))
    scale = data.draw(st.sampled_from([1e-6, 1e-3, 0.02, 0.5, 300.0]))  # from hardly anything to far beyond int32
    weight, scales, zeros, packed = make(rng, rows, cols, bits, group, zero_points, scale_bits, scale)
    size = data.draw(st.integers(0, 31))
    x = rng.integers(-(1 << size), 1 << size, (tokens, cols)) >> rng.integers(0, 20, (tokens, cols))
    bias = rng.integers(-(1 << 20), 1 << 20, rows) if data.draw(st.booleans()) else None
    residual = rng.integers(fixed.LEAST, fixed.MOST, (tokens, rows)) if data.draw(st.booleans()) else None
    blocks = -(-rows // 32)
    cuts = tuple((b, b + 1) for b in range(blocks)) if data.draw(st.booleans()) else ((0, -1),)
    got = run(x, packed, rows, cols, bits, group, x_bits, scale_bits, bias, residual, cuts)
    np.testing.assert_array_equal(got, oracle(x, weight, scales, zeros, group, x_bits, scale_bits, bias, residual))


@pytest.mark.parametrize(("bits", "group", "cols"), [(4, 128, 2048), (4, 128, 6144), (8, 512, 1024), (8, 128, 4096)])
@pytest.mark.parametrize("size", [0.05, 1.0, 40.0])
def test_distance_from_float64(bits: int, group: int, cols: int, size: float) -> None:
    """16-bit activations: a fraction of a unit for the sum, and what rounding x to 16 bits costs."""
    rng = np.random.default_rng(cols)
    weight, scales, _, packed = make(rng, 96, cols, bits, group, False, 16, 0.3 / np.sqrt(cols) / (1 << (bits - 3)))
    x = fixed.activations(rng.normal(size=(8, cols)) * size)
    got = run(x, packed, 96, cols, bits, group, 16, 16, None, None)
    exact = x.astype(np.float64) @ (weight * scales.repeat(group, axis=1)[:, :cols].astype(np.float64)).T
    exponents = quantised(x, group, 16)[1]
    step = (2.0 ** exponents).repeat(group, axis=1)[:, :cols]
    step[step == 1] = 0  # exact
    rounding = np.sqrt((step**2 / 12) @ ((weight * scales.repeat(group, axis=1)[:, :cols]) ** 2).T)
    unit = 2.0 ** (exponents.max(axis=1, keepdims=True) - GUARD)
    assert np.abs(got - exact).max() <= 0.5 + 6 * rounding.max() + 3 * unit.max() * np.sqrt(cols / group)

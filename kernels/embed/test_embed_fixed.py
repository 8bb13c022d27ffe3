"""Rows of an embedding in the integer arithmetic: a numpy oracle, exactly, within half a unit of the exact value."""

import numpy as np
import pytest
from hypervl_engine import _testing

from kernels.common import fixed_oracle as fixed
from kernels.linear.test_linear_fixed import make


@pytest.mark.parametrize(("bits", "scale_bits", "zero_points"), [(4, 16, False), (4, 32, True), (8, 16, True), (8, 16, False)])
@pytest.mark.parametrize("scale", [1e-7, 3e-3, 0.5, 2000.0])
def test_equals_the_oracle(bits: int, scale_bits: int, zero_points: bool, scale: float) -> None:
    rng = np.random.default_rng(bits)
    rows, cols, group = 75, 200, 128
    weight, scales, zeros, packed = make(rng, rows, cols, bits, group, zero_points, scale_bits, scale)
    ids = np.array([0, 74, -1, 33], np.int32)
    out = fixed.view(np.full((4, cols), 77))
    _testing.embed(packed, rows, cols, bits, group, scale_bits, ids, out, "fixed")
    mantissa, exponent = fixed.weight_scales(scales, scale_bits)
    whole = weight.astype(np.int64) - (0 if zeros is None else zeros.repeat(group, axis=1)[:, :cols])
    per_column = [a.repeat(group, axis=1)[:, :cols] for a in (mantissa, exponent)]
    expected = fixed.round_down(whole * per_column[0], -fixed.FRACTION - per_column[1])[ids]
    expected[2] = 77  # an image embedding stands there
    np.testing.assert_array_equal(fixed.ints(out), expected)
    exact = (whole * scales.repeat(group, axis=1)[:, :cols].astype(np.float64) * 2**15)[ids[[0, 1, 3]]]
    reached = np.abs(exact) < 2**31
    slack = 0.5 + (np.abs(exact) * 2.0**-16 if scale_bits == 32 else 0)
    assert (np.abs(fixed.ints(out)[[0, 1, 3]] - exact) <= slack)[reached].all()

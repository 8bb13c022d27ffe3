"""Maximum and sum of exponentials: numpy in float64, and bit for bit between variants and cuts."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("exp_sum")
CHUNK = 1024


def run(variant: str, x: np.ndarray, cuts: list[tuple[int, int]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    units = -(-len(x) // CHUNK)
    maximum, total = np.full(units, np.nan, np.float32), np.full(units, np.nan, np.float32)
    for cut in cuts or [(0, units)]:
        _testing.exp_sum(variant, x, maximum, total, cut)
    return maximum, total


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**31), size=st.sampled_from([1e-3, 1.0, 30.0, 1e4]))
def test_matches_float64_and_every_variant(n: int, seed: int, size: float) -> None:
    x = (np.random.default_rng(seed).normal(size=n) * size).astype(np.float32)
    maximum, total = run("reference", x)
    for unit in range(len(maximum)):
        part = x[unit * CHUNK : (unit + 1) * CHUNK].astype(np.float64)
        assert maximum[unit] == part.max()
        # exp is right to 2 ulp, its argument to one rounding of at most 105 that still counts, and 64 + 4 additions round.
        exact = np.exp(part - part.max()).sum()
        assert abs(total[unit] - exact) <= exact * 2.0**-24 * (2 * 2 + 105 + 68)
    for variant in VARIANTS:
        for cuts in (None, [(i, i + 1) for i in range(len(maximum))]):
            again = run(variant, x, cuts)
            np.testing.assert_array_equal(again[0], maximum)
            np.testing.assert_array_equal(again[1], total)


@pytest.mark.parametrize("variant", VARIANTS)
def test_strange_values(variant: str) -> None:
    assert run(variant, np.zeros(5, np.float32)) == (np.float32(0), np.float32(5))
    maximum, total = run(variant, np.array([-np.inf, 3.0, -np.inf], np.float32))
    assert (maximum[0], total[0]) == (3.0, 1.0)
    maximum, _ = run(variant, np.array([np.inf, 3.0], np.float32))
    assert maximum[0] == np.inf

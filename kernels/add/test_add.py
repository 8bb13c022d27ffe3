"""a + b: one IEEE addition, so numpy's float32 sum to the bit."""

import numpy as np
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 6), cols=st.integers(1, 70), seed=st.integers(0, 2**31), alias=st.sampled_from(["", "a", "b"])
)
def test_equals_numpy(rows: int, cols: int, seed: int, alias: str) -> None:
    for variant in _testing.available_variants("add"):
        a, b = np.random.default_rng(seed).normal(size=(2, rows, cols)).astype(np.float32)
        expected = a + b
        out = {"": np.full_like(a, np.nan), "a": a, "b": b}[alias]
        middle = rows // 2
        _testing.add(variant, a, b, out, (middle, rows))
        _testing.add(variant, a, b, out, (0, middle))
        assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))

"""Sums of activations in HVX against kernels/add/fixed.cc, in one emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.row_operands import add


@given(rows=st.integers(1, 5), cols=st.integers(1, 300), at=st.sampled_from([0, 0, 1, 31, 32, 33]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_fixed(server: TestServer, rows: int, cols: int, at: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = ((rng.integers(-(1 << 31), 1 << 31, (rows, cols)) >> rng.integers(0, 3, (rows, cols))).astype(np.int32) for _ in range(2))
    begin, end = sorted(int(n) for n in rng.integers(0, rows + 1, 2))
    for part in ((0, rows), (begin, end)):
        expected, found = (add(server, f"add_{kernel}", a, b, at=at, part=part)[0] for kernel in ("fixed", "hvx"))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scalars", [[0, 32, 0, 1, 0], [1, 0, 0, 1, 0], [1, 32, 0, 2, 0], [1, 32, 0, 1, 64], [1, 33, 0, 1, 0]])
def test_arguments_that_do_not_fit_are_refused(server: TestServer, scalars: list[int]) -> None:
    operand = np.zeros(32, np.int32)
    with pytest.raises(InvalidArguments):
        server.call("add_hvx", scalars, [operand, operand], [Output((32,), np.int32)])

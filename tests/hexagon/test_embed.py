"""Rows of an embedding in HVX against kernels/embed/fixed.cc, in one emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.linear_operands import random_linear
from tools.hexagon.row_operands import embed

FORMS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128), (8, 256), (8, 384), (8, 512)]  # bits, group size


@given(
    form=st.sampled_from(FORMS), scale_bits=st.sampled_from([16, 32]), zero_points=st.booleans(), rows=st.integers(1, 5),
    vocab=st.integers(1, 100), hidden=st.integers(1, 1100), more=st.sampled_from([0, 1, 32]),
    scale=st.sampled_from([1e-7, 1e-5, 0.004, 0.7, 2000.0]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_fixed(
    server: TestServer, form: tuple[int, int], scale_bits: int, zero_points: bool, rows: int, vocab: int, hidden: int, more: int,
    scale: float, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    bits, group_size = form
    of = random_linear(rng, 1, vocab, hidden, *form, scale=scale, scale_bits=scale_bits, zero_points=zero_points and group_size <= 128)
    ids = rng.integers(-1, vocab, rows, np.int32)
    expected, found = (
        embed(server, f"embed_{kernel}", ids, of.weight, of.scales, of.zeros, bits, group_size, stride=hidden + more)[0]
        for kernel in ("fixed", "hvx")
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(0, 0, "rows"), (1, 65537, "vocab"), (2, 129, "hidden"), (3, 5, "bits"), (4, 96, "group_size"), (5, 8, "scale_bits"),
     (6, 2, "zero_points"), (7, 127, "out_stride"), (9, 2, "end"), (1, 33, "another size"), (1, 5, "vocabulary")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(server: TestServer, position: int, value: int, message: str) -> None:
    scalars = [1, 32, 128, 4, 128, 16, 0, 128, 0, 1]
    inputs = [np.array([9], np.int32), np.zeros(2112, np.uint8)]
    scalars[position] = value
    with pytest.raises(InvalidArguments, match=message):
        server.call("embed_hvx", scalars, inputs, [Output((128,), np.int32)])

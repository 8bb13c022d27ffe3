"""Quantised rows in HVX against kernels/quantize/fixed.cc, in one emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.row_operands import quantize, quantize_i16

GROUPS = [32, 64, 128, 256, 384, 512]


def random_rows(rng: np.random.Generator, rows: int, cols: int, size: int) -> NDArray[np.int32]:
    """Of up to `size` bits, and every hundredth number an end of the range or beside a power of two."""
    x = rng.integers(-(1 << size), 1 << size, (rows, cols)) >> rng.integers(0, 20, (rows, cols))
    special = np.array([-(1 << 31), (1 << 31) - 1, 0, -1, *(s * (1 << k) - 1 for k in range(1, 31) for s in (-1, 1))])
    return np.where(rng.random((rows, cols)) < 0.01, rng.choice(special, (rows, cols)), x).astype(np.int32)


@given(
    rows=st.integers(1, 5), cols=st.integers(1, 1100), group_size=st.sampled_from(GROUPS), bits=st.sampled_from([16, 8]),
    more=st.sampled_from([0, 1, 32]), at=st.integers(0, 33), size=st.integers(0, 31), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@example(rows=2, cols=1, group_size=32, bits=16, more=0, at=0, size=31, seed=0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_fixed(
    server: TestServer, rows: int, cols: int, group_size: int, bits: int, more: int, at: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = random_rows(rng, rows, cols, size)
    begin, end = sorted(int(n) for n in rng.integers(0, rows + 1, 2))
    for part in ((0, rows), (begin, end)):
        expected, found = (
            quantize(server, f"quantize_{kernel}", x, group_size, bits, stride=cols + more, at=at, part=part)[0]
            for kernel in ("fixed", "hvx")
        )
        for name, one, other in zip(("q", "exponents", "sums"), expected, found, strict=True):
            np.testing.assert_array_equal(other, one, name)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("group_size", GROUPS)
def test_every_width(server: TestServer, group_size: int, bits: int) -> None:
    """Groups of every width, of the least, the greatest and the most negative number of it."""
    widest = np.array([s * (1 << k) - o for k in range(32) for s in (-1, 1) for o in (0, 1) if -(1 << 31) <= s * (1 << k) - o < 1 << 31])
    x = np.repeat(widest.astype(np.int32)[:, None], group_size, axis=1)
    x[:, 1:] >>= np.arange(1, group_size) % 31
    expected, found = (quantize(server, f"quantize_{kernel}", x, group_size, bits)[0] for kernel in ("fixed", "hvx"))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(other, one)


@given(
    rows=st.integers(1, 5), cols=st.integers(1, 1100), group_size=st.sampled_from(GROUPS), at=st.integers(0, 63),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pixels_equal_fixed(server: TestServer, rows: int, cols: int, group_size: int, at: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-32768, 32767, (rows, cols), np.int16, endpoint=True)
    x[0] = rng.choice([-32768, 32767])
    expected, found = (
        quantize_i16(server, f"quantize_i16_{kernel}", x, group_size, 2.0 ** -(seed % 20), at=at)[0] for kernel in ("fixed", "hvx")
    )
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(0, 0, "rows"), (1, 0, "rows"), (2, 96, "group_size"), (2, 640, "group_size"), (3, 4, "bits"), (5, 3, "end"), (6, 127, "x of another"),
     (7, 64, "x of another"), (1, 129, "another size")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(server: TestServer, position: int, value: int, message: str) -> None:
    scalars = [2, 128, 128, 16, 0, 2, 128, 0]
    outputs = [Output((512,), np.uint8), Output((2,), np.int32), Output((4,), np.int32)]
    server.call("quantize_hvx", scalars, [np.zeros(256, np.int32)], outputs)
    scalars[position] = value
    with pytest.raises(InvalidArguments, match=message):
        server.call("quantize_hvx", scalars, [np.zeros(256, np.int32)], outputs)

"""Resizing in HVX equals the CPU's reference to the bit, for any size, filter, alignment and cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.resize import Pass

SWEEP = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BEFORE = st.one_of(st.just(0), st.integers(0, 200))
SIDES = st.one_of(st.integers(1, 8), st.integers(1, 150), st.integers(1, 400))


def noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Random pixels, half of them extremes: overshoots of the cubic are clamped on both ends."""
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    return np.where(rng.random(pixels.shape) < 0.5, pixels, rng.choice(np.array([0, 255], np.uint8), pixels.shape)).astype(np.uint8)


def compare(server: TestServer, one: Pass) -> None:
    expected, _ = one.run(server, "reference")
    np.testing.assert_array_equal(one.run(server, "hvx")[0], expected)


@SWEEP
@given(
    side=SIDES, other=st.integers(1, 140), out_size=SIDES, vertical=st.booleans(), name=st.sampled_from(["bicubic", "bilinear"]),
    before=st.tuples(BEFORE, BEFORE), cut=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 2**31),
)  # fmt: skip
@example(side=3000, other=3, out_size=17, vertical=False, name="bicubic", before=(1, 3), cut=(0, 0), seed=0)  # windows of 22 blocks
@example(side=3000, other=3, out_size=17, vertical=True, name="bicubic", before=(1, 3), cut=(0, 0), seed=0)  # 177 groups of taps
@example(side=3, other=2, out_size=500, vertical=False, name="bicubic", before=(0, 0), cut=(0, 0), seed=0)
@example(side=100, other=300, out_size=90, vertical=False, name="bicubic", before=(0, 0), cut=(0, 0), seed=0)  # 128, 128 and 44 lines
def test_equals_the_reference(
    server: TestServer, side: int, other: int, out_size: int, vertical: bool, name: str, before: tuple[int, int], cut: tuple[int, int],
    seed: int,
) -> None:  # fmt: skip
    height, width = (side, other) if vertical else (other, side)
    lines = out_size if vertical else height
    span = (min(cut[0], lines), max(min(cut[0], lines), lines - cut[1]))
    first, weights = _testing.resize_taps(side, out_size, name)
    compare(server, Pass(noise(np.random.default_rng(seed), height, width), first, weights, vertical, before, span))


@SWEEP
@given(
    side=st.one_of(st.integers(1, 40), st.integers(1, 500)), other=st.integers(1, 140), out_size=st.integers(1, 60), data=st.data(),
    vertical=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_windows_anywhere(server: TestServer, side: int, other: int, out_size: int, data: st.DataObject, vertical: bool, seed: int) -> None:
    """Also such as no filter has: far from each other, or the same, and weights of any sign up to the largest sum."""
    taps = min(side, data.draw(st.one_of(st.integers(1, 300), st.sampled_from([4, 28, 29, 30, 32, 33, 127, 128, 129, 256, 257]))))
    rng = np.random.default_rng(seed)
    first = np.sort(rng.integers(0, side - taps + 1, out_size)).astype(np.int32)
    shares = rng.dirichlet(np.ones(taps), out_size) * rng.choice([-1, 1], (out_size, taps))
    weights = (shares * rng.choice([1 << 10, 1 << 22, 127 << 16], (out_size, 1))).astype(np.int32)
    height, width = (side, other) if vertical else (other, side)
    compare(server, Pass(noise(rng, height, width), first, weights, vertical))


@pytest.mark.parametrize("vertical", [False, True])
def test_weights_of_any_digits(server: TestServer, vertical: bool) -> None:
    rng = np.random.default_rng(4)
    weights = rng.integers(-126 << 16, 126 << 16, (60, 1), np.int32)
    weights[:10, 0] = [0, -1, 127, 128, -128, -129, 32767, -32768, 127 << 16, -127 << 16]
    compare(server, Pass(noise(rng, 60, 60), np.arange(60, dtype=np.int32), weights, vertical))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: 0}, "sizes"),
        ({3: 5}, "taps"),
        ({3: 0}, "taps"),
        ({5: 5}, "lines"),
        ({4: 2, 5: 1}, "lines"),
        ({6: -1}, "before"),
        ({7: 1}, "another size"),
    ],
)
def test_refuses_what_does_not_fit(server: TestServer, changed: dict[int, int], message: str) -> None:
    scalars = [4, 4, 2, 2, 0, 2, 0, 0]
    for i, value in changed.items():
        scalars[i] = value
    inputs = [np.zeros((4, 4, 3), np.uint8), np.zeros(2, np.int32), np.zeros((2, 2), np.int32)]
    with pytest.raises(InvalidArguments, match=message):
        server.call("resize_vertical_hvx", scalars, inputs, [Output((2, 4, 3), np.uint8)])


def test_refuses_taps_outside_of_the_image(server: TestServer) -> None:
    inputs = [np.zeros((4, 4, 3), np.uint8), np.array([0, 3], np.int32), np.zeros((2, 2), np.int32)]
    with pytest.raises(InvalidArguments, match="taps within"):
        server.call("resize_vertical_hvx", [4, 4, 2, 2, 0, 2, 0, 0], inputs, [Output((2, 4, 3), np.uint8)])

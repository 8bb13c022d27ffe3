"""patchify and pixel_shuffle in HVX equal the CPU's reference to the bit, wherever image, table and patches lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.elementwise import Patches, extreme_words, pixel_shuffle

SWEEP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BEFORE = st.one_of(st.just(0), st.integers(0, 130))


@SWEEP
@given(
    height=st.integers(1, 100), width=st.integers(1, 100), origin=st.tuples(st.integers(0, 120), st.integers(0, 120)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 5)), patch=st.one_of(st.sampled_from([14, 16]), st.integers(1, 50)),
    before=st.tuples(BEFORE, BEFORE, BEFORE), begin=st.integers(0, 3), seed=st.integers(0, 2**31),
)  # fmt: skip
@example(height=130, width=130, origin=(0, 0), grid=(1, 1), patch=128, before=(0, 0, 0), begin=0, seed=0)  # stretches of 42, 42, 42 and 2
@example(height=30, width=43, origin=(0, 0), grid=(1, 1), patch=43, before=(5, 1, 3), begin=0, seed=0)
def test_patchify_equals_the_reference(
    server: TestServer, height: int, width: int, origin: tuple[int, int], grid: tuple[int, int], patch: int, before: tuple[int, int, int],
    begin: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    table = rng.integers(-32768, 32768, (3, 257), np.int16)
    operands = Patches(image, table, origin, grid, patch, before, (min(begin, grid[0]), grid[0]))
    expected, _ = operands.run(server, "reference")
    np.testing.assert_array_equal(operands.run(server, "hvx")[0], expected)


@SWEEP
@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 4)), factor=st.integers(1, 3),
    cols=st.one_of(st.integers(1, 80), st.sampled_from([256, 300])),
    before=st.tuples(st.integers(0, 40), st.integers(0, 40)), begin=st.integers(0, 3), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_pixel_shuffle_equals_the_reference(
    server: TestServer, grid: tuple[int, int], factor: int, cols: int, before: tuple[int, int], begin: int, seed: int
) -> None:
    x = extreme_words(np.random.default_rng(seed), (grid[0] * factor, grid[1] * factor, cols))
    tokens = grid[0] * grid[1]
    span = (min(begin, tokens), tokens)
    expected, _ = pixel_shuffle(server, "reference", x, factor, span, before)
    np.testing.assert_array_equal(pixel_shuffle(server, "hvx", x, factor, span, before)[0], expected)


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ([2, 2, 8, 3, 0, 1, 0, 0], "multiples"), ([2, 2, 0, 2, 0, 1, 0, 0], "cols"), ([2, 2, 8, 2, 0, 2, 0, 0], "tokens"),
        ([2, 2, 8, 2, 0, 1, -1, 0], "words before"), ([2, 2, 9, 2, 0, 1, 0, 0], "another size"),
    ],
)  # fmt: skip
def test_pixel_shuffle_refuses_what_does_not_fit(server: TestServer, scalars: list[int], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        server.call("pixel_shuffle_hvx", scalars, [np.zeros(32, np.int32)], [Output((32,), np.int32)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: 0}, "height"),
        ({6: 129}, "patch"),
        ({2: -1}, "top"),
        ({8: 2}, "rows of patches"),
        ({9: -1}, "before"),
        ({11: 1}, "another size"),
    ],
)
def test_patchify_refuses_what_does_not_fit(server: TestServer, changed: dict[int, int], message: str) -> None:
    scalars = [2, 2, 0, 0, 1, 1, 2, 0, 1, 0, 0, 0]
    for i, value in changed.items():
        scalars[i] = value
    inputs = [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 257), np.int16)]
    with pytest.raises(InvalidArguments, match=message):
        server.call("patchify_hvx", scalars, inputs, [Output((12,), np.int16)])

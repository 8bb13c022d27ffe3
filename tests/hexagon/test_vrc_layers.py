"""The VRC's layers in HVX equal the CPU's reference to the bit, wherever their operands lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon import vrc
from tools.hexagon.client import InvalidArguments, Output, TestServer

SWEEP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS, BLOCKS, BEFORE = st.integers(0, 2**31), st.integers(1, 10), st.integers(0, 130)


def same(server: TestServer, call: vrc.Call, rng: np.random.Generator, before: int) -> None:
    """All of it, and a part of it that leaves the rest alone."""
    span = sorted(int(i) for i in rng.integers(0, call.units + 1, 2))
    for part in (None, (span[0], span[1])):
        expected, _ = call.run(server, "reference", part, before)
        np.testing.assert_array_equal(call.run(server, "hvx", part, before)[0], expected)


@SWEEP
@given(seed=SEEDS, height=st.integers(1, 9), width=st.integers(1, 23), blocks=st.integers(1, 4), low=st.booleans(), before=BEFORE)
def test_stem(server: TestServer, seed: int, height: int, width: int, blocks: int, low: bool, before: int) -> None:
    rng = np.random.default_rng(seed)
    same(server, vrc.stem(rng, height, width, blocks * vrc.LANES, low=low), rng, before)


@SWEEP
@given(
    seed=SEEDS, height=st.integers(1, 9), width=st.integers(1, 9), blocks=BLOCKS, stride=st.sampled_from([1, 2]),
    zero_point=st.sampled_from([0, 128]), low=st.booleans(), before=BEFORE,
)  # fmt: skip
def test_depthwise(
    server: TestServer, seed: int, height: int, width: int, blocks: int, stride: int, zero_point: int, low: bool, before: int
) -> None:
    rng = np.random.default_rng(seed)
    same(server, vrc.depthwise(rng, height, width, blocks * vrc.LANES, stride, zero_point, low=low), rng, before)


@SWEEP
@given(
    seed=SEEDS, pixels=st.integers(1, 30), k_groups=st.integers(1, 40), gap=st.integers(0, 20), blocks=BLOCKS,
    zero_point=st.sampled_from([0, 128]), residual=st.booleans(), low=st.booleans(), before=BEFORE, aligned=st.booleans(),
)  # fmt: skip
def test_pointwise(
    server: TestServer, seed: int, pixels: int, k_groups: int, gap: int, blocks: int, zero_point: int, residual: bool, low: bool,
    before: int, aligned: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    stride = 4 * k_groups + gap
    if aligned:
        stride, before = -(-stride // 8) * 8, before // 8 * 8
    same(server, vrc.pointwise(rng, pixels, stride, k_groups, blocks * vrc.LANES, zero_point, residual=residual, low=low), rng, before)


@SWEEP
@given(seed=SEEDS, pixels=st.integers(1, 60), blocks=st.integers(1, 20), stride=st.integers(1, 20), before=BEFORE)
def test_pool(server: TestServer, seed: int, pixels: int, blocks: int, stride: int, before: int) -> None:
    rng = np.random.default_rng(seed)
    same(server, vrc.pool(rng, pixels, blocks * vrc.LANES, stride), rng, before)


def test_pool_of_the_most_pixels(server: TestServer) -> None:
    call = vrc.pool(np.random.default_rng(0), 32768, 16, 1)
    call.inputs[0][:], call.inputs[1][:] = 255, 255
    out, _ = call.run(server, "hvx")
    np.testing.assert_array_equal(out, 255)


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ([8, 8, 17, 0, 4, 0], "sizes"), ([8, 8, 16, 0, 5, 0], "rows"), ([8, 8, 16, 0, 4, -1], "bytes before"),
        ([8, 9, 16, 0, 4, 0], "another size"),
    ],
)  # fmt: skip
def test_stem_refuses_what_does_not_fit(server: TestServer, scalars: list[int], message: str) -> None:
    call = vrc.stem(np.random.default_rng(0), 8, 8, 16)
    with pytest.raises(InvalidArguments, match=message):
        server.call("vrc_stem_hvx", scalars, call.inputs, [Output((call.out_bytes,), np.uint8)])

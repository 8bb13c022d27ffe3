"""The exact dots of kernels/linear/hexagon_dots.h: HVX and the C++ reference against numpy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.operands import ROW_BLOCK, LinearDots, pack_values, random_linear_dots

KERNELS = ["linear_dots_reference", "linear_dots_hvx"]
FORMS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128), (8, 256), (8, 384), (8, 512)]  # bits, group size


@given(
    form=st.sampled_from(FORMS), tokens=st.integers(1, 9), blocks=st.integers(1, 6), groups=st.integers(1, 4),
    header=st.sampled_from([0, 128, 256]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@example(form=(4, 128), tokens=7, blocks=5, groups=3, header=128, seed=0)  # every combination of tokens and blocks at once
@example(form=(8, 512), tokens=7, blocks=5, groups=3, header=128, seed=0)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_numpy(server: TestServer, form: tuple[int, int], tokens: int, blocks: int, groups: int, header: int, seed: int) -> None:
    bits, group_size = form
    operands = random_linear_dots(np.random.default_rng(seed), tokens, blocks * ROW_BLOCK, groups * group_size, bits, group_size, header)
    for kernel in KERNELS:
        np.testing.assert_array_equal(operands.run(server, kernel)[0], operands.expected(), kernel)


@pytest.mark.parametrize(("bits", "group_size"), FORMS)
def test_equal_numpy_at_the_ends_of_the_range(server: TestServer, bits: int, group_size: int) -> None:
    """Every token of one value of x meets blocks of the least and the greatest weight."""
    limit = 1 << (bits - 1)
    x = np.repeat(np.array([-32767, 32767, -256, -1, 0, 255], np.int16)[:, None], group_size, axis=1)
    weight = np.repeat(np.array([-limit, limit - 1], np.int8), ROW_BLOCK)[:, None].repeat(group_size, axis=1)
    operands = LinearDots(x, weight, bits, group_size)
    assert abs(operands.expected()).max() == 32767 * limit * group_size < 2**31
    for kernel in KERNELS:
        np.testing.assert_array_equal(operands.run(server, kernel)[0], operands.expected(), kernel)


@pytest.mark.parametrize("bits", [4, 8])
def test_values_are_packed_as_for_the_cpu(bits: int) -> None:
    weight = random_linear_dots(np.random.default_rng(1), 1, 64, 256, bits, 128).weight
    packed = _testing.pack_linear(weight, np.ones((64, 2), np.float32), bits, 128, 32)
    np.testing.assert_array_equal(packed.reshape(2, 2, -1)[:, :, ROW_BLOCK * 4 :], pack_values(weight, bits, 128))


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ([5, 128, 1, 1, 1, 0], "bits"),
        ([4, 256, 1, 1, 1, 0], "group_size"),
        ([8, 640, 1, 1, 1, 0], "group_size"),
        ([4, -128, 1, 1, 1, 0], "group_size"),
        ([4, 128, 0, 1, 1, 0], "tokens"),
        ([4, 128, 1, -1, 1, 0], "row_blocks"),
        ([4, 128, 1, 1, 2**31 - 1, 0], "groups"),
        ([4, 128, 1, 1, 1, 64], "header"),
        ([4, 128, 2, 1, 1, 0], "another size"),
        ([4, 128, 2**16, 2**16, 2**16, 4096], "another size"),
        ([4, 128, 1, 1, 1], "another number"),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_arguments_that_do_not_fit_are_refused(server: TestServer, kernel: str, scalars: list[int], message: str) -> None:
    inputs = [np.zeros(256, np.uint8), np.zeros(1, np.int32), np.zeros(2048, np.uint8)]
    with pytest.raises(InvalidArguments, match=message):
        server.call(kernel, scalars, inputs, [Output((ROW_BLOCK,), np.int32)])

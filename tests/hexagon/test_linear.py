"""The linear layer in HVX against kernels/linear/fixed.cc, in one emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.linear_operands import Linear, pack, random_linear

FORMS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128), (8, 256), (8, 384), (8, 512)]  # bits, group size
SCALES = [1e-7, 1e-5, 0.004, 0.06, 0.7, 300.0]  # from subnormal numbers to far beyond what sums hold


def same(server: TestServer, operands: Linear, begin: int = 0, end: int | None = None) -> None:
    expected, found = (operands.run(server, kernel, begin, end)[0] for kernel in ("linear_fixed", "linear_hvx"))
    np.testing.assert_array_equal(found, expected)


def with_zeros(form: tuple[int, int]) -> bool:
    return form[1] <= 128


@given(
    form=st.sampled_from(FORMS), x_bits=st.sampled_from([16, 8]), scale_bits=st.sampled_from([16, 32]), zero_points=st.booleans(),
    tokens=st.integers(1, 9), rows=st.integers(1, 290), cols=st.integers(1, 1100), scale=st.sampled_from(SCALES), bias=st.booleans(),
    residual=st.booleans(), more=st.sampled_from([0, 1, 7, 32]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@example((4, 128), 16, 16, False, 5, 288, 1100, 0.004, True, True, 0, 0)
@example((4, 128), 16, 16, True, 7, 161, 640, 0.004, True, True, 1, 0)
@example((4, 32), 16, 16, False, 5, 130, 2500, 0.004, True, True, 0, 0)  # more columns than are prepared at a time
@example((4, 128), 16, 16, False, 5, 1100, 2300, 0.004, True, True, 0, 0)  # and more row blocks than their sums are kept of
@example((4, 128), 16, 16, False, 5, 1100, 4300, 0.7, True, True, 0, 0)  # the same, where sums need limits
@example((8, 384), 16, 16, False, 5, 70, 2100, 0.004, True, True, 0, 0)
@example((4, 32), 16, 32, True, 5, 130, 2300, 0.7, True, False, 0, 0)
@example((8, 512), 16, 32, False, 5, 130, 1030, 0.004, True, True, 0, 0)
@example((8, 512), 16, 32, False, 5, 130, 1030, 0.06, True, True, 0, 0)
@example((8, 128), 8, 16, True, 5, 130, 1030, 0.004, False, True, 7, 0)
@example((4, 64), 8, 16, False, 70, 33, 100, 0.004, False, True, 7, 0)
@example((4, 128), 16, 16, False, 7, 200, 4096, 0.004, True, True, 0, 0)  # groups in pairs: four tokens, two and one
@example((8, 384), 16, 16, False, 7, 70, 2304, 0.004, True, True, 0, 0)
@example((8, 512), 8, 16, False, 7, 130, 2048, 0.004, False, True, 0, 0)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_fixed(
    server: TestServer, form: tuple[int, int], x_bits: int, scale_bits: int, zero_points: bool, tokens: int, rows: int, cols: int,
    scale: float, bias: bool, residual: bool, more: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    operands = random_linear(
        rng, tokens, rows, cols, *form, x_bits=x_bits, scale=scale, scale_bits=scale_bits, zero_points=zero_points and with_zeros(form),
        bias=bias, residual=residual, stride=rows + more,
    )  # fmt: skip
    same(server, operands)
    blocks = -(-rows // 32)
    begin, end = sorted(rng.integers(0, blocks + 1, 2))
    same(server, operands, int(begin), int(end))


@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize("x_bits", [16, 8])
@pytest.mark.parametrize("form", FORMS)
def test_at_the_ends_of_the_range(server: TestServer, form: tuple[int, int], x_bits: int, tokens: int) -> None:
    """Every activation and weight the largest, with scales on either side of where sums start to need limits."""
    bits, group_size = form
    most, limit = (1 << (x_bits - 1)) - 1, 1 << (bits - 1)
    for zeros in ([False, True] if with_zeros(form) else [False]):
        for exponent in range(-12, 2):
            rng = np.random.default_rng(exponent + 12)
            operands = random_linear(rng, tokens, 128, 2 * group_size, bits, group_size, x_bits=x_bits, zero_points=zeros, bias=True)
            operands.x[:] = most * rng.choice([-1, 1], (tokens, 1))
            operands.weight[:] = rng.choice([-limit, limit - 1], (128, 1))
            if operands.zeros is not None:
                operands.zeros[:] = -1 - operands.weight[:, :1].astype(np.int16)
            operands.exponents[:] = rng.integers(0, 32 - x_bits)
            operands.scales[:] = 2.0**exponent * (2 - 2.0**-10)
            same(server, operands)


@pytest.mark.parametrize("scale_bits", [16, 32])
def test_every_scale(server: TestServer, scale_bits: int) -> None:
    """Every exponent, among others those of zero, subnormal numbers, and what is no number; fractions that round into the next exponent."""
    rng = np.random.default_rng(scale_bits)
    for tokens in (1, 4):
        for group in range(64):
            operands = random_linear(rng, tokens, 128, 640, 4, 128, scale_bits=scale_bits)
            words = operands.scales.view(np.uint16 if scale_bits == 16 else np.uint32)
            fields = rng.integers(0, 32 if scale_bits == 16 else 256, words.shape) if group else np.zeros(words.shape, np.int64)
            if group % 2:  # within what needs no limits
                fields = fields % 14 if scale_bits == 16 else fields % 126
            fractions = rng.choice([0, 1, -1, -128, -129, 0x155], words.shape) & ((1 << (10 if scale_bits == 16 else 23)) - 1)
            words[:] = fields << (10 if scale_bits == 16 else 23) | fractions
            same(server, operands)


@pytest.mark.parametrize("exponent", [-134, -20, 0, 5, 6, 7, 24, 100])
def test_exponents_of_pixels(server: TestServer, exponent: int) -> None:
    operands = random_linear(np.random.default_rng(0), 5, 70, 600, 8, 128, bias=True)
    operands.exponents[:] = exponent
    same(server, operands)


@pytest.mark.parametrize(("bits", "zero_points", "scale_bits"), [(4, False, 16), (4, True, 16), (8, False, 32), (8, True, 32)])
def test_weights_are_packed_as_for_the_cpu(bits: int, zero_points: bool, scale_bits: int) -> None:
    weight = random_linear(np.random.default_rng(1), 1, 70, 300, bits, 128, zero_points=zero_points, scale_bits=scale_bits)
    zeros = None if weight.zeros is None else weight.zeros.astype(np.int8)
    packed = _testing.pack_linear(weight.weight, weight.scales.astype(np.float32), bits, 128, scale_bits, zero_points=zeros)
    assert packed.tobytes() == pack(weight.weight, weight.scales, weight.zeros, bits, 128)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(0, 0, "tokens"), (2, 4, "bits"), (3, -1, "rows"), (4, 5, "bits"), (5, 96, "group_size"), (6, 8, "scale_bits"), (7, 2, "zero_points"),
     (8, 31, "out_stride"), (12, 2, "end"), (1, 129, "another size"), (9, 1, "another size")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(server: TestServer, position: int, value: int, message: str) -> None:
    scalars = [1, 128, 16, 32, 4, 128, 16, 0, 32, 0, 0, 0, 1]
    inputs = [np.zeros(n, np.uint8) for n in (256, 4, 8, 2112, 0, 0)]
    server.call("linear_hvx", scalars, inputs, [Output((32,), np.int32)])
    scalars[position] = value
    with pytest.raises(InvalidArguments, match=message):
        server.call("linear_hvx", scalars, inputs, [Output((32,), np.int32)])

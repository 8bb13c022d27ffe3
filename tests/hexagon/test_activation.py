"""activation and silu_mul in HVX equal kernels/activation/fixed.cc to the bit, wherever the rows lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.elementwise import ACTIVATIONS, Rows, activation, extreme_words, silu_mul

SWEEP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def places(draw: st.DrawFn, rows: int) -> Rows:
    begin = draw(st.integers(0, rows))
    words = st.one_of(st.just(0), st.integers(0, 40))
    return Rows(begin, draw(st.integers(begin, rows)), (draw(words), draw(words), draw(words)), draw(st.booleans()))


@SWEEP
@given(data=st.data(), kind=st.sampled_from([*ACTIVATIONS]), rows=st.integers(1, 5), cols=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_activation_equals_fixed(server: TestServer, data: st.DataObject, kind: str, rows: int, cols: int, seed: int) -> None:
    x = extreme_words(np.random.default_rng(seed), (rows, cols), 20 if seed % 2 else 31)
    at = data.draw(places(rows))
    expected, _ = activation(server, "fixed", kind, x, at)
    np.testing.assert_array_equal(activation(server, "hvx", kind, x, at)[0], expected)


@SWEEP
@given(data=st.data(), rows=st.integers(1, 5), cols=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_silu_mul_equals_fixed(server: TestServer, data: st.DataObject, rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = 20 if seed % 2 else 31
    gate, up = extreme_words(rng, (rows, cols), bits), extreme_words(rng, (rows, cols), bits)
    at = data.draw(places(rows))
    expected, _ = silu_mul(server, "fixed", gate, up, at)
    np.testing.assert_array_equal(silu_mul(server, "hvx", gate, up, at)[0], expected)


@pytest.mark.parametrize("kind", [*ACTIVATIONS])
def test_every_word_of_the_tails(server: TestServer, kind: str) -> None:
    x = np.arange(-(17 << 15), 17 << 15, dtype=np.int32).reshape(-1, 4096)
    expected, _ = activation(server, "fixed", kind, x, Rows())
    np.testing.assert_array_equal(activation(server, "hvx", kind, x, Rows())[0], expected)


def test_silu_mul_at_the_ends_of_its_range(server: TestServer) -> None:
    """Products within a few units of where they saturate, on either side."""
    rng = np.random.default_rng(0)
    gate = (rng.integers(1, 1 << 16, 8192) << 15).astype(np.int32)  # where silu is the identity, or zero
    sign = rng.choice([-1, 1], gate.shape)
    up = np.clip(sign * ((1 << 46) // np.maximum(gate, 1).astype(np.int64)) + rng.integers(-2, 3, gate.shape), -(1 << 31), (1 << 31) - 1)
    gate[:4], up[:4] = [2**31 - 1, 2**31 - 1, -(2**31), -9000], [2**31 - 1, -(2**31), -(2**31), -(2**31)]
    operands = gate.reshape(4, -1), up.astype(np.int32).reshape(4, -1)
    expected, _ = silu_mul(server, "fixed", *operands, Rows())
    np.testing.assert_array_equal(silu_mul(server, "hvx", *operands, Rows())[0], expected)
    assert {-(2**31), 2**31 - 1} <= set(expected.tolist())
    assert (np.abs(expected.astype(np.int64)) < 2**31 - 1).any()


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ([5, 1, 32, 0, 1, 0, 0, 0], "kind"),
        ([0, 0, 32, 0, 0, 0, 0, 0], "rows and cols"),
        ([0, 1, 2**31 - 1, 0, 1, 0, 0, 0], "rows and cols"),
        ([0, 1, 32, 1, 0, 0, 0, 0], "begin"),
        ([0, 1, 32, 0, 2, 0, 0, 0], "begin"),
        ([0, 1, 32, 0, 1, -1, 0, 0], "words before"),
        ([0, 1, 32, 0, 1, 0, 0, 1], "another size"),
        ([0, 1, 32], "another number"),
    ],
)
@pytest.mark.parametrize("kernel", ["activation_fixed", "activation_hvx"])
def test_arguments_that_do_not_fit_are_refused(server: TestServer, kernel: str, scalars: list[int], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        server.call(kernel, scalars, [np.zeros(32, np.int32)], [Output((32,), np.int32)])

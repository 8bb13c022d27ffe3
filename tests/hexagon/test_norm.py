"""RMSNorm and LayerNorm in HVX equal kernels/norm/fixed.cc to the bit, wherever the rows lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kernels.common import fixed_oracle as fixed
from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.elementwise import Norm, Words, extreme_words

EPS = [0.0, 1e-45, 1e-12, 1e-6, 1e-5, 0.5, 1e4, 3e38]
WEIGHTS = ["usual", "any exponent", "both directions"]
WORDS = st.one_of(st.just(0), st.integers(0, 40))


def weights(rng: np.random.Generator, cols: int, kind: str) -> Words:
    if kind == "any exponent":
        return fixed.words(rng.integers(-32768, 32768, cols), rng.integers(-32768, 32768, cols))
    if kind == "both directions":
        return fixed.words(rng.integers(-32768, 32768, cols), rng.integers(-45, 30, cols))
    return fixed.words(*fixed.scaled(rng.normal(1, 0.5, cols) * rng.integers(0, 2, cols)))


def compare(server: TestServer, operands: Norm) -> None:
    expected, _ = operands.run(server, "fixed")
    np.testing.assert_array_equal(operands.run(server, "hvx")[0], expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 3), cols=st.one_of(st.integers(1, 300), st.sampled_from([1, 32, 64, 128, 256])),
    seed=st.integers(0, 2**31), layer=st.booleans(), bits=st.integers(0, 31), eps=st.sampled_from(EPS), kind=st.sampled_from(WEIGHTS),
    pads=st.tuples(WORDS, WORDS), before=st.tuples(WORDS, WORDS, WORDS, WORDS), in_place=st.booleans(), begin=st.integers(0, 2),
)  # fmt: skip
@example(
    rows=3, cols=256, seed=1, layer=True, bits=31, eps=1e-6, kind="any exponent", pads=(0, 0), before=(0, 0, 0, 0), in_place=False, begin=0
)  # fmt: skip
def test_equals_fixed(
    server: TestServer, rows: int, cols: int, seed: int, layer: bool, bits: int, eps: float, kind: str, pads: tuple[int, int],
    before: tuple[int, int, int, int], in_place: bool, begin: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    x = extreme_words(rng, (rows, cols), bits)
    x[0] = rng.choice([0, -1, fixed.LEAST, fixed.MOST, x[0, 0]])  # all the same
    strides = (cols + pads[0], cols + (pads[0] if in_place else pads[1]))
    bias = extreme_words(rng, (cols,))
    compare(server, Norm(x, weights(rng, cols, kind), bias, eps, layer, strides, before, min(begin, rows), rows, in_place))


@pytest.mark.parametrize("layer", [False, True])
def test_every_width_of_a_row(server: TestServer, layer: bool) -> None:
    """One value as large as can be among zeros, and all of them: the unit's shift at both its ends."""
    rng = np.random.default_rng(0)
    for cols in (1, 100, 2048):
        top = [0, -1] + [sign * (1 << b) - less for b in range(31) for sign in (1, -1) for less in (0, 1)] + [fixed.LEAST, fixed.MOST]
        one = np.zeros((len(top), cols), np.int32)
        one[:, cols // 2] = top
        x = np.concatenate([one, np.repeat(np.array(top, np.int32)[:, None], cols, axis=1), one + one[:, ::-1] // 3])
        bias = extreme_words(rng, (cols,), 20)
        compare(server, Norm(x, weights(rng, cols, "usual"), bias, 1e-6, layer))
        compare(server, Norm(x, weights(rng, cols, "usual"), bias, 0.0, layer))


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("fill", [0, 16384, 2**30, fixed.LEAST, fixed.MOST, None])
def test_the_longest_rows(server: TestServer, layer: bool, fill: int | None) -> None:
    """No sum overflows in 32768 columns; one value among so many zeros is a unit that is not shifted."""
    rng = np.random.default_rng(1)
    cols = 32768
    x = extreme_words(rng, (2, cols)) if fill is None else np.full((2, cols), fill, np.int32)
    x[1, 5] = 1 << 14
    compare(server, Norm(x, weights(rng, cols, "usual"), extreme_words(rng, (cols,)), 0.0, layer))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: 2}, "kind"), ({1: 0x7F800000}, "eps"), ({1: -1}, "eps"), ({2: 0}, "rows"), ({3: 32769}, "cols"), ({4: 2}, "begin"),
        ({6: 31}, "strides"), ({8: 1, 6: 64}, "in place"), ({9: -1}, "words before"), ({12: 1}, "another size"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(server: TestServer, changed: dict[int, int], message: str) -> None:
    scalars = [0, 0, 1, 32, 0, 1, 32, 32, 0, 0, 0, 0, 0]
    for i, value in changed.items():
        scalars[i] = value
    inputs = [np.zeros(32, np.int32), np.zeros(32, np.int32), np.zeros(0, np.int32)]
    with pytest.raises(InvalidArguments, match=message):
        server.call("norm_hvx", scalars, inputs, [Output((32,), np.int32)])

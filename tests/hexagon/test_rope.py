"""rope in HVX against kernels/rope/fixed.cc in the same emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.rope import Rope, random_rope


def check(server: TestServer, call: Rope) -> None:
    expected, _ = call.run(server, "rope_fixed")
    got, _ = call.run(server, "rope_hvx")
    np.testing.assert_array_equal(got, expected)


@given(
    head_dim=st.sampled_from([2, 4, 30, 32, 64, 66, 72, 96, 128, 130, 254, 256]),
    heads=st.integers(1, 20),
    rows=st.integers(1, 4),
    position=st.integers(0, 5),
    size=st.integers(0, 31),
    normed=st.booleans(),
    eps=st.sampled_from([0.0, 1e-30, 1e-6, 1e-2, 1e6, 3e38]),
    least=st.integers(-40, 5),
    more=st.integers(0, 30),
    gap=st.integers(0, 3),
    before=st.tuples(st.integers(0, 31), st.integers(0, 31)),
    seed=st.integers(0, 2**32 - 1),
)
@example(head_dim=128, heads=16, rows=3, position=1, size=17, normed=True, eps=1e-6, least=-16, more=2, gap=0, before=(0, 0), seed=0)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_the_reference(
    server: TestServer,
    head_dim: int,
    heads: int,
    rows: int,
    position: int,
    size: int,
    normed: bool,
    eps: float,
    least: int,
    more: int,
    gap: int,
    before: tuple[int, int],
    seed: int,
) -> None:
    """What is between rows stays."""
    call = random_rope(
        np.random.default_rng(seed),
        head_dim=head_dim,
        heads=heads,
        rows=rows,
        position=position,
        size=size,
        normed=normed,
        eps=eps,
        exponents=(least, least + more),
        gap=gap,
        before=before[0],
        tables_before=before[1],
    )
    call.cut = (rows // 2, rows) if seed % 2 else None
    check(server, call)


@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, -1, 0, 1])
@pytest.mark.parametrize("angle", [-(1 << 31), (1 << 31) - 1, 0])
@pytest.mark.parametrize("normed", [True, False])
def test_ends_of_the_range(server: TestServer, value: int, angle: int, normed: bool) -> None:
    call = random_rope(np.random.default_rng(0), head_dim=72, heads=3, rows=2, normed=normed)
    call.x[:] = value
    call.cos[:] = angle
    check(server, call)


@pytest.mark.parametrize("head_dim", [2, 6])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_roots_of_many_sizes(server: TestServer, head_dim: int, eps: float) -> None:
    """Means from few bits to many, squares and their neighbours among them."""
    rng = np.random.default_rng(head_dim)
    call = random_rope(rng, head_dim=head_dim, heads=256, rows=32, eps=eps)
    x = (np.exp2(rng.uniform(0, 31, (32 * 256, 1))) * rng.choice([1, 1, 0.5, 2**-15], (32 * 256, head_dim))).astype(np.int64)
    call.x[:] = x.astype(np.int32).ravel()
    check(server, call)


@pytest.mark.parametrize(
    ("index", "value", "message"), [(0, 0, "head_dim"), (0, 5, "shape"), (0, 258, "shape"), (9, 2, "shape"), (2, 2, "another size")]
)
def test_arguments_that_do_not_fit_are_refused(server: TestServer, index: int, value: int, message: str) -> None:
    call = random_rope(np.random.default_rng(0), head_dim=16, heads=1, rows=1)
    scalars = [16, 1, 1, 0, 16, 0, 0, 0, 0, 1]
    scalars[index] = value
    for kernel in ("rope_fixed", "rope_hvx"):
        with pytest.raises(InvalidArguments, match=message):
            server.call(kernel, scalars, [call.x, call.weight, call.cos, call.sin], [Output(call.x.shape, np.int32)])

"""Attention in HVX against kernels/attention/fixed.cc in the same emulated process, to the bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.attention import Attention, random_attention
from tools.hexagon.client import InvalidArguments, TestServer

SWEEP = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(server: TestServer, call: Attention) -> tuple[np.ndarray, np.ndarray]:
    expected, _ = call.run(server, "attention_fixed")
    got, _ = call.run(server, "attention_hvx")
    for name, e, g in zip(("out", "state"), expected, got, strict=True):
        np.testing.assert_array_equal(g, e, name)
    return got


@given(
    head_dim=st.sampled_from([2, 8, 16, 24, 32, 48, 64, 72, 96, 128, 144, 256, 512]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    rows=st.integers(1, 34),
    more=st.sampled_from([0, 1, 15, 16, 17, 31, 33, 200, 255, 256, 300, 600]),
    causal=st.booleans(),
    gaps=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    before=st.tuples(st.integers(0, 31), st.integers(0, 31)),
    cache_before=st.sampled_from([0, 64]),
    seed=st.integers(0, 2**32 - 1),
)
@example(head_dim=64, kv_heads=1, group=1, rows=32, more=0, causal=False, gaps=(0, 0), before=(0, 0), cache_before=0, seed=0)
@example(head_dim=128, kv_heads=1, group=2, rows=1, more=520, causal=True, gaps=(0, 0), before=(0, 0), cache_before=64, seed=0)
@settings(SWEEP, max_examples=80)
def test_shapes(
    server: TestServer,
    head_dim: int,
    kv_heads: int,
    group: int,
    rows: int,
    more: int,
    causal: bool,
    gaps: tuple[int, int],
    before: tuple[int, int],
    cache_before: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    call = random_attention(
        rng,
        head_dim=head_dim,
        kv_heads=kv_heads,
        group=group,
        rows=rows,
        position=more,
        key_end=rows + more,
        causal=causal,
        gaps=gaps,
        q_before=before[0],
        out_before=before[1],
        cache_before=cache_before,
    )
    check(server, call)


@given(
    head_dim=st.sampled_from([16, 64, 80]),
    rows=st.integers(1, 5),
    more=st.sampled_from([3, 250, 300]),
    size=st.integers(0, 31),
    k_exponents=st.tuples(st.integers(-37, -5), st.integers(0, 30)),
    v_exponents=st.tuples(st.integers(-37, -5), st.integers(0, 30)),
    scale=st.sampled_from([0.0, 1e-30, 1e-4, 0.125, 0.3, 1.0, 77.7, 1e4, 1e12]),
    causal=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(SWEEP, max_examples=120)
def test_sizes(
    server: TestServer,
    head_dim: int,
    rows: int,
    more: int,
    size: int,
    k_exponents: tuple[int, int],
    v_exponents: tuple[int, int],
    scale: float,
    causal: bool,
    seed: int,
) -> None:
    """From queries of one bit to those of 31, and scales to match; scores that saturate among them."""
    ranges = [(least, min(least + more_, -5)) for least, more_ in (k_exponents, v_exponents)]
    rng = np.random.default_rng(seed)
    call = random_attention(
        rng,
        head_dim=head_dim,
        kv_heads=1,
        group=2,
        rows=rows,
        position=more,
        key_end=rows + more,
        causal=causal,
        size=size,
        k_exponents=ranges[0],
        v_exponents=ranges[1],
        scale=scale,
    )
    check(server, call)


@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, 0, -1])
@pytest.mark.parametrize("integer", [-127, 127])
def test_ends_of_the_range(server: TestServer, value: int, integer: int) -> None:
    call = random_attention(np.random.default_rng(0), head_dim=128, kv_heads=1, group=1, rows=5, position=300, key_end=305, causal=True)
    call.q[:] = value
    for cache in (call.k, call.v):
        blocks = cache.reshape(-1, 64 + 16 * 128)
        blocks[:, 64:] = integer & 255
        blocks[:, :64].view(np.int32)[:] = 32767 << 16 | (-5 & 0xFFFF)
    check(server, call)


@given(
    cuts=st.lists(st.sampled_from([256, 512, 768]), max_size=3, unique=True),
    rows=st.sampled_from([1, 3, 17]),
    causal=st.booleans(),
    head_dim=st.sampled_from([24, 128]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(SWEEP, max_examples=30)
def test_parts(server: TestServer, cuts: list[int], rows: int, causal: bool, head_dim: int, seed: int) -> None:
    """Keys in parts, each from a cache of its own whose first position is the part's: the same as at once."""
    whole = random_attention(
        np.random.default_rng(seed), head_dim=head_dim, kv_heads=2, group=2, rows=rows, position=800, key_end=800 + rows, causal=causal
    )
    expected, _ = check(server, whole)
    bounds = [0, *sorted(cuts), 800 + rows]
    out, state = whole.out, whole.state
    side = whole.k.reshape(2, whole.capacity // 16, -1).shape
    for begin, end in pairwise(bounds):
        blocks = slice(begin // 16, (end + 15) // 16)
        k, v = (np.ascontiguousarray(c.reshape(side)[:, blocks]).ravel() for c in (whole.k, whole.v))
        part = Attention(
            whole.q,
            k,
            v,
            out,
            state,
            head_dim,
            2,
            4,
            (end + 15) // 16 * 16 - begin,
            800,
            begin,
            end,
            causal,
            whole.scale,
            first=begin == 0,
            last=end == bounds[-1],
        )
        out, state = check(server, part)
    np.testing.assert_array_equal(out, expected)


@given(units=st.tuples(st.integers(0, 8), st.integers(0, 8)), seed=st.integers(0, 2**32 - 1))
@settings(SWEEP, max_examples=10)
def test_units_are_independent(server: TestServer, units: tuple[int, int], seed: int) -> None:
    call = random_attention(np.random.default_rng(seed), head_dim=40, kv_heads=2, group=2, rows=20, position=5, key_end=25, causal=True)
    call.units = (min(units), max(units))
    check(server, call)


def test_other_parts_are_nothing_to_it_when_it_goes_on(server: TestServer) -> None:
    """A part that is neither first nor last, with any sums and state."""
    for seed in range(5):
        call = random_attention(
            np.random.default_rng(seed), head_dim=72, kv_heads=2, group=1, rows=7, position=1000, key_begin=512, key_end=1007, causal=True
        )
        call.first = call.last = False
        check(server, call)


@pytest.mark.parametrize(
    ("index", "value", "message"), [(0, 0, "head_dim"), (0, 1024, "shape"), (2, 8, "shape"), (6, 100, "keys"), (17, 5, "units")]
)
@pytest.mark.parametrize("kernel", ["attention_fixed", "attention_hvx"])
def test_arguments_that_do_not_fit_are_refused(server: TestServer, kernel: str, index: int, value: int, message: str) -> None:
    call = random_attention(np.random.default_rng(0), head_dim=16, kv_heads=1, group=1, rows=1, position=0, key_end=1, causal=True)
    scalars: list[int] = []
    run = server.call

    class Recorder:
        def call(self, kernel: str, given: list[int], inputs: object, outputs: object) -> object:
            scalars.extend(given)
            scalars[index] = value
            return run(kernel, scalars, inputs, outputs)  # type: ignore[arg-type]

    with pytest.raises(InvalidArguments, match=message):
        call.run(Recorder(), kernel)  # type: ignore[arg-type]

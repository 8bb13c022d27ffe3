"""kv_store in HVX against kernels/kv_store/fixed.cc in the same emulated process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tools.hexagon.client import InvalidArguments, Output, TestServer
from tools.hexagon.kv_store import KvStore, random_kv_store


def check(server: TestServer, call: KvStore) -> None:
    expected, _ = call.run(server, "kv_store_fixed")
    got, _ = call.run(server, "kv_store_hvx")
    for name, e, g in zip("kv", expected, got, strict=True):
        np.testing.assert_array_equal(g, e, name)


@given(
    head_dim=st.sampled_from([1, 2, 8, 16, 24, 32, 40, 64, 72, 80, 96, 128, 136, 176, 256, 512]),
    kv_heads=st.integers(1, 3),
    rows=st.integers(1, 40),
    position=st.integers(0, 40),
    size=st.integers(1, 31),
    gap=st.integers(0, 3),
    before=st.integers(0, 31),
    cache_before=st.sampled_from([0, 64]),
    heads=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(head_dim=128, kv_heads=2, rows=1, position=21, size=17, gap=0, before=0, cache_before=0, heads=False, seed=0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_the_reference(
    server: TestServer,
    head_dim: int,
    kv_heads: int,
    rows: int,
    position: int,
    size: int,
    gap: int,
    before: int,
    cache_before: int,
    heads: bool,
    seed: int,
) -> None:
    """What was in the caches, the memory between heads and before row 0 among it, stays."""
    call = random_kv_store(
        np.random.default_rng(seed),
        head_dim=head_dim,
        kv_heads=kv_heads,
        rows=rows,
        position=position,
        size=size,
        gap=gap,
        before=before,
        cache_before=cache_before,
    )
    call.heads = (kv_heads - 1, kv_heads) if heads else None
    check(server, call)


@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, -1, 0, 1, 1 << 30, (1 << 30) - 1])
def test_ends_of_the_range(server: TestServer, value: int) -> None:
    call = random_kv_store(np.random.default_rng(0), head_dim=80, kv_heads=2, rows=17, position=3)
    call.k[:] = value
    call.v[::80] = value
    check(server, call)


@pytest.mark.parametrize("base", [0, 1 << 10, 1 << 20, (1 << 30) - 17])
def test_every_largest_value(server: TestServer, base: int) -> None:
    """Quotients of neighbouring divisors: exact wherever they fall."""
    call = random_kv_store(np.random.default_rng(0), head_dim=16, kv_heads=1, rows=4096, position=0)
    values = base + np.arange(4096) if base < 1 << 30 else base + 262147 * np.arange(4096)
    call.k[:] = call.v[:] = (values[:, None] >> np.arange(16)).astype(np.int32).ravel()
    check(server, call)


@pytest.mark.parametrize(
    ("index", "value", "message"), [(0, 0, "head_dim"), (2, 8, "shape"), (4, 16, "shape"), (9, 2, "shape"), (3, 2, "another size")]
)
def test_arguments_that_do_not_fit_are_refused(server: TestServer, index: int, value: int, message: str) -> None:
    call = random_kv_store(np.random.default_rng(0), head_dim=16, kv_heads=1, rows=1, position=0)
    scalars = [16, 1, 16, 1, 0, 16, 0, 0, 0, 1]
    scalars[index] = value
    cache = np.zeros(64 + 256, np.uint8)
    for kernel in ("kv_store_fixed", "kv_store_hvx"):
        with pytest.raises(InvalidArguments, match=message):
            server.call(kernel, scalars, [call.k, call.v, cache, cache], [Output(cache.shape, np.uint8)] * 2)

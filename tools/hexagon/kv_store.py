"""Operands of the integer kv_store on Hexagon, and the call that takes them (kernels/kv_store/hexagon_testing.cc)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.attention import KEY_BLOCK, block_bytes
from tools.hexagon.client import Counts, Output, TestServer


@dataclass
class KvStore:
    k: NDArray[np.int32]  # flat: before, then (rows, stride)
    v: NDArray[np.int32]
    head_dim: int
    kv_heads: int
    capacity: int
    rows: int
    position: int
    before: int = 0
    cache_before: int = 0
    heads: tuple[int, int] | None = None  # all

    def run(self, server: TestServer, kernel: str) -> tuple[list[NDArray[np.generic]], Counts]:
        """Both caches, whose bytes were 0x5a."""
        cache = np.full(self.cache_before + self.kv_heads * self.capacity // KEY_BLOCK * block_bytes(self.head_dim), 0x5A, np.uint8)
        stride = (self.k.size - self.before) // self.rows
        heads = self.heads or (0, self.kv_heads)
        scalars = [self.head_dim, self.kv_heads, self.capacity, self.rows, self.position, stride, self.before, self.cache_before, *heads]
        return server.call(kernel, scalars, [self.k, self.v, cache, cache], [Output(cache.shape, np.uint8)] * 2)


def random_kv_store(
    rng: np.random.Generator,
    *,
    head_dim: int,
    kv_heads: int,
    rows: int,
    position: int,
    size: int = 17,
    gap: int = 0,
    before: int = 0,
    cache_before: int = 0,
) -> KvStore:
    """Rows of about `size` bits and fewer; some are zeros, some -1, whose magnitude is 0 too."""
    stride = kv_heads * head_dim + gap
    sides = []
    for _ in range(2):
        x = rng.integers(-(1 << size), 1 << size, (rows, stride)) >> rng.integers(0, size + 1, (rows, 1))
        x[rng.random(rows) < 0.1] = 0
        x[rng.random(rows) < 0.1] = -1
        sides.append(np.concatenate([np.full(before, 77), x.ravel()]).astype(np.int32))
    capacity = (position + rows + KEY_BLOCK - 1) // KEY_BLOCK * KEY_BLOCK
    return KvStore(sides[0], sides[1], head_dim, kv_heads, capacity, rows, position, before, cache_before)


def count_kv_store(server: TestServer) -> dict[str, int]:
    """Packets by case."""
    found: dict[str, int] = {}
    for rows, kv_heads, head_dim in [(256, 2, 64), (32, 2, 128), (1, 2, 128)]:
        call = random_kv_store(np.random.default_rng(0), head_dim=head_dim, kv_heads=kv_heads, rows=rows, position=0 if rows > 1 else 21)
        found[f"kv_store, {rows} rows, {kv_heads} heads of {head_dim}"] = call.run(server, "kv_store_hvx")[1].packets
    return found

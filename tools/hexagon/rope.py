"""Operands of the integer rope on Hexagon, and the call that takes them (kernels/rope/hexagon_testing.cc)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer

Ints = NDArray[np.int32]


@dataclass
class Rope:
    x: Ints  # flat: before, then (rows, stride)
    weight: Ints  # words, tables_before of anything and then head_dim; or none
    cos: Ints  # flat: tables_before of anything, then (position + rows, head_dim / 2)
    sin: Ints
    head_dim: int
    heads: int
    rows: int
    position: int
    eps: float
    before: int = 0
    tables_before: int = 0
    cut: tuple[int, int] | None = None  # rows; all

    def run(self, server: TestServer, kernel: str) -> tuple[NDArray[np.generic], Counts]:
        stride = (self.x.size - self.before) // self.rows
        scalars = [
            self.head_dim,
            self.heads,
            self.rows,
            self.position,
            stride,
            self.before,
            int(np.float32(self.eps).view(np.int32)),
            self.tables_before,
            *(self.cut or (0, self.rows)),
        ]
        (out,), counts = server.call(kernel, scalars, [self.x, self.weight, self.cos, self.sin], [Output(self.x.shape, np.int32)])
        return out, counts


def random_rope(
    rng: np.random.Generator,
    *,
    head_dim: int,
    heads: int,
    rows: int,
    position: int = 0,
    size: int = 17,
    normed: bool = True,
    eps: float = 1e-6,
    exponents: tuple[int, int] = (-16, -14),
    gap: int = 0,
    before: int = 0,
    tables_before: int = 0,
) -> Rope:
    """Heads of up to `size` bits, some of them zeros or with one value far above the others; weights whose exponents are in a range."""
    x = rng.integers(-(1 << size), 1 << size, (rows, heads, head_dim)) >> rng.integers(0, size + 1, (rows, heads, 1))
    x[rng.random((rows, heads)) < 0.05] = 0
    x[rng.random((rows, heads)) < 0.05, 0] = (1 << size) - 1
    flat = np.concatenate([x.reshape(rows, -1), np.full((rows, gap), 55)], axis=1).ravel()
    mantissa = rng.choice([-1, 1], head_dim) * rng.integers(1 << 14, 1 << 15, head_dim) * (rng.random(head_dim) < 0.95)
    words = mantissa << 16 | (rng.integers(exponents[0], exponents[1] + 1, head_dim) & 0xFFFF)
    angles = rng.uniform(0, 2 * np.pi, ((position + rows) * head_dim // 2))
    cos, sin = (np.minimum(np.floor(f(angles) * 2.0**31 + 0.5), 2.0**31 - 1) for f in (np.cos, np.sin))
    head = [np.full(n, 7) for n in (before, tables_before)]
    arrays = [
        np.concatenate(parts).astype(np.int64).astype(np.int32)
        for parts in ([head[0], flat], [head[1], words], [head[1], cos], [head[1], sin])
    ]
    if not normed:
        arrays[1] = np.zeros(0, np.int32)
    return Rope(*arrays, head_dim, heads, rows, position, eps, before, tables_before)


def count_rope(server: TestServer) -> dict[str, int]:
    """Packets by case."""
    found: dict[str, int] = {}
    for rows, heads, head_dim, normed in [(1, 16, 128, True), (16, 16, 128, True), (16, 16, 128, False)]:
        call = random_rope(np.random.default_rng(0), head_dim=head_dim, heads=heads, rows=rows, normed=normed)
        found[f"rope{' and norm' if normed else ''}, {rows} rows, {heads} heads of {head_dim}"] = call.run(server, "rope_hvx")[1].packets
    return found

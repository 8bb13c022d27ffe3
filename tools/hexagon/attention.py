"""Operands of the integer attention on Hexagon, and the call that takes them (kernels/attention/hexagon_testing.cc)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer

QUERY_BLOCK, CHUNK, KEY_BLOCK = 16, 256, 16
Ints = NDArray[np.int32]


def padded(head_dim: int) -> int:
    return (head_dim + 15) // 16 * 16


def block_bytes(head_dim: int) -> int:
    return 64 + KEY_BLOCK * padded(head_dim)


def scratch_bytes(head_dim: int) -> int:
    """attention_scratch_bytes of kernels/attention/attention.h."""
    row = 6 * padded(head_dim)
    if head_dim < 64:
        return QUERY_BLOCK * (4 * CHUNK + row)
    return QUERY_BLOCK * (4 * CHUNK + 4 * row) + CHUNK * (padded(head_dim) + 64)


@dataclass
class Attention:
    """One call. Caches: bytes as kernels/kv_store lays them out, from `cache_before` on."""

    q: Ints  # flat: q_before, then (rows, q_stride)
    k: NDArray[np.uint8]
    v: NDArray[np.uint8]
    out: Ints  # what it holds before; as q
    state: Ints  # (rows, heads, 2)
    head_dim: int
    kv_heads: int
    heads: int
    capacity: int
    position: int
    key_begin: int
    key_end: int
    causal: bool
    scale: float
    first: bool = True
    last: bool = True
    q_before: int = 0
    out_before: int = 0
    cache_before: int = 0
    units: tuple[int, int] | None = field(default=None)  # all

    def run(self, server: TestServer, kernel: str) -> tuple[tuple[Ints, Ints], Counts]:
        """Everything in `out` and `state` afterwards."""
        rows = len(self.state)
        units = self.units or (0, self.heads * -(-rows // QUERY_BLOCK))
        scale = int(np.float32(self.scale).view(np.int32))
        strides = [(a.size - before) // rows for a, before in ((self.q, self.q_before), (self.out, self.out_before))]
        scalars = [
            self.head_dim,
            self.kv_heads,
            self.capacity,
            self.heads,
            rows,
            self.position,
            self.key_begin,
            self.key_end,
            self.causal,
            self.first,
            self.last,
            scale,
            *strides,
            self.q_before,
            self.out_before,
            self.cache_before,
            *units,
        ]
        outputs = [Output(self.out.shape, np.int32), Output(self.state.shape, np.int32), Output((scratch_bytes(self.head_dim),), np.uint8)]
        inputs = [self.q, self.k, self.v, self.out, self.state]
        (out, state, _), counts = server.call(kernel, [int(s) for s in scalars], inputs, outputs)
        return (out.astype(np.int32), state.astype(np.int32)), counts


def random_cache(
    rng: np.random.Generator, kv_heads: int, head_dim: int, capacity: int, exponents: tuple[int, int], before: int = 0
) -> NDArray[np.uint8]:
    """Integers from -127 to 127 with scales whose exponents are in a range, rows of zeros among them."""
    blocks = (kv_heads, capacity // KEY_BLOCK)
    mantissa, exponent = (
        rng.integers(1 << 14, 1 << 15, (*blocks, KEY_BLOCK)),
        rng.integers(exponents[0], exponents[1] + 1, (*blocks, KEY_BLOCK)),
    )
    none = rng.random(mantissa.shape) < 0.05
    words = (np.where(none, 0, mantissa) << 16 | (np.where(none, -64, exponent) & 0xFFFF)).astype(np.int32)
    values = rng.integers(-127, 128, (*blocks, KEY_BLOCK * padded(head_dim)), np.int8)
    data = np.concatenate([words.view(np.uint8).reshape(*blocks, 64), values.view(np.uint8)], axis=-1)
    return np.concatenate([np.full(before, 0xEE, np.uint8), data.ravel()])


def random_attention(
    rng: np.random.Generator,
    *,
    head_dim: int,
    kv_heads: int,
    group: int,
    rows: int,
    position: int,
    key_end: int,
    causal: bool,
    size: int = 16,
    k_exponents: tuple[int, int] = (-22, -19),
    v_exponents: tuple[int, int] = (-24, -16),
    scale: float | None = None,
    key_begin: int = 0,
    gaps: tuple[int, int] = (0, 0),
    q_before: int = 0,
    out_before: int = 0,
    cache_before: int = 0,
) -> Attention:
    """size: bits of the queries. gaps: ints between rows of q, of out."""
    heads = kv_heads * group
    capacity = (key_end - key_begin + KEY_BLOCK - 1) // KEY_BLOCK * KEY_BLOCK
    q, out = (
        rng.integers(-(1 << bits), 1 << bits, before + rows * (heads * head_dim + gap), np.int64).astype(np.int32)
        for bits, before, gap in ((size, q_before, gaps[0]), (24, out_before, gaps[1]))
    )
    state = np.stack(
        [
            rng.integers(-(1 << 6), 1 << 6, (rows, heads)) * 256 + rng.integers(100, 140, (rows, heads)),
            rng.integers(1 << 20, 1 << 30, (rows, heads)),
        ],
        axis=-1,
    ).astype(np.int32)
    caches = [random_cache(rng, kv_heads, head_dim, capacity, e, cache_before) for e in (k_exponents, v_exponents)]
    return Attention(
        q,
        *caches,
        out,
        state,
        head_dim,
        kv_heads,
        heads,
        capacity,
        position,
        key_begin,
        key_end,
        causal,
        head_dim**-0.5 if scale is None else scale,
        q_before=q_before,
        out_before=out_before,
        cache_before=cache_before,
    )


def count_attention(server: TestServer) -> dict[str, int]:
    """Packets of a tile's attention, of a block of a prompt and of one token, by case; a multiplication each for q . K and w . V."""
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}
    for name, head_dim, kv_heads, group, rows, keys, causal in [
        ("tile", 64, 2, 1, 256, 256, False),
        ("tile", 72, 1, 1, 32, 256, False),
        ("prompt", 128, 1, 2, 32, 1024, True),
        ("one token", 128, 1, 2, 1, 1024, True),
    ]:
        call = random_attention(
            rng, head_dim=head_dim, kv_heads=kv_heads, group=group, rows=rows, position=keys - rows, key_end=keys, causal=causal
        )
        _, counts = call.run(server, "attention_hvx")
        found[f"attention, {name}, {rows} x {keys} x {head_dim}, {kv_heads * group} heads"] = counts.packets
    return found

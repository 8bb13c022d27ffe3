"""Operands of kernels on Hexagon, laid out by numpy as the contracts say, and the calls that take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer

ROW_BLOCK = 32


def split_planes(x: NDArray[np.int16]) -> NDArray[np.uint8]:
    """x (tokens, K) -> (tokens, 2, K): the high bytes, signed, and the low ones (kernels/quantize/quantize.h)."""
    return np.stack([x >> 8, x & 255], axis=1).astype(np.uint8)


def pack_values(weight: NDArray[np.int8], bits: int, group_size: int) -> NDArray[np.uint8]:
    """weight (rows, K), rows and K whole blocks and groups -> (row_blocks, groups, bytes): the vectors of kernels/linear/linear.h."""
    rows, cols = weight.shape
    step = 32 // bits
    blocks = weight.reshape(rows // ROW_BLOCK, ROW_BLOCK, cols // group_size, group_size // step, step // 4, 4)
    vectors = blocks.transpose(0, 2, 3, 1, 5, 4)  # (row_blocks, groups, vectors, row, byte, nibble)
    if bits == 4:
        low, high = np.moveaxis(vectors.astype(np.int16) + 8, -1, 0)
        packed = low | high << 4
    else:
        packed = vectors
    return packed.astype(np.uint8).reshape(rows // ROW_BLOCK, cols // group_size, -1)


class LinearDots(NamedTuple):
    """Operands of kernels/linear/hexagon_dots.h."""

    x: NDArray[np.int16]  # (tokens, K)
    weight: NDArray[np.int8]  # (rows, K)
    bits: int
    group_size: int
    header: int = 0  # bytes before the values of every group

    def expected(self) -> NDArray[np.int64]:
        """(row_blocks, groups, tokens, 32)"""
        x = self.x.reshape(len(self.x), -1, self.group_size).astype(np.int64)
        weight = self.weight.reshape(-1, ROW_BLOCK, x.shape[1], self.group_size).astype(np.int64)
        return np.einsum("tgk,brgk->bgtr", x, weight)

    def run(self, server: TestServer, kernel: str) -> tuple[NDArray[np.generic], Counts]:
        tokens, cols = self.x.shape
        groups, blocks = cols // self.group_size, len(self.weight) // ROW_BLOCK
        sums = self.x.reshape(tokens, groups, self.group_size).sum(-1, dtype=np.int32)
        values = np.pad(pack_values(self.weight, self.bits, self.group_size), ((0, 0), (0, 0), (self.header, 0)))
        scalars = [self.bits, self.group_size, tokens, blocks, groups, self.header]
        output = Output((blocks, groups, tokens, ROW_BLOCK), np.int32)
        (dots,), counts = server.call(kernel, scalars, [split_planes(self.x), sums, values], [output])
        return dots, counts


def random_linear_dots(
    rng: np.random.Generator, tokens: int, rows: int, cols: int, bits: int, group_size: int, header: int = 0
) -> LinearDots:
    limit = 1 << (bits - 1)
    x = rng.integers(-32767, 32768, (tokens, cols), np.int16)
    return LinearDots(x, rng.integers(-limit, limit, (rows, cols), np.int8), bits, group_size, header)

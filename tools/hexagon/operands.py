"""Operands of kernels on Hexagon, laid out by numpy as the contracts say, and the calls that take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

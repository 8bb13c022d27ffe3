"""Float rows to compressed-tensors' packed words, and which module gets how many bits."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hypervl_engine import _core
from hypervl_engine.config import Config, QuantizationConfig, QuantScheme
from hypervl_engine.tensors import linear_shapes

CHUNK_VALUES = 8 << 20  # of float32 at once: 32 MB, and a few times that while it is worked on


def plan(config: Config, group_size: int) -> QuantizationConfig:
    """4 bits for the language model, 8 with one scale a row for vision and projectors.

    The group of 4-bit weights is the largest of 128, 64 and 32, at most `group_size`, that divides the columns, else one scale a row.
    """
    groups: dict[QuantScheme, dict[str, None]] = {}
    for name, (_, columns) in linear_shapes(config):
        bits = 4 if name.startswith(("model.language_model.", "lm_head.")) else 8
        size = next((g for g in (128, 64, 32) if bits == 4 and g <= group_size and columns % g == 0), 0)
        module = name.removesuffix(".weight")
        layered = re.sub(r"\\\.layers\\\.\d+\\\.", r"\\.layers\\.\\d+\\.", re.escape(module))
        target = f"re:{layered}$" if layered != re.escape(module) else module
        groups.setdefault(QuantScheme(bits, size), {})[target] = None
    return QuantizationConfig(tuple((scheme, tuple(targets)) for scheme, targets in groups.items()), ())


def pack_words(q: NDArray[np.int8], bits: int) -> NDArray[np.int32]:
    """(rows, columns) -> (rows, ceil(columns * bits / 32)): value + 2^(bits - 1), lowest bits first; the rest is 0."""
    columns = q.shape[1]
    words = -(-columns * bits // 32)
    offset = q.view(np.uint8) + np.uint8(8) if bits == 4 else q.view(np.uint8) ^ np.uint8(128)
    padded = words * 32 // bits
    if padded != columns:
        offset = np.pad(offset, ((0, 0), (0, padded - columns)))
    if bits == 4:
        offset = offset[:, 0::2] | offset[:, 1::2] << np.uint8(4)
    return np.ascontiguousarray(offset).view("<i4")


def quantize(
    weight: NDArray[np.float32], bits: int, group_size: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """(rows, columns) floats -> words, scales (rows, groups), sum of squared errors. group_size 0: one scale a row."""
    q, scales = _core.quantize_groups(weight, bits, group_size or weight.shape[1], True)
    grouped = q.reshape(*scales.shape, -1) * scales[:, :, None]
    difference = weight.reshape(grouped.shape) - grouped
    return pack_words(q, bits), scales, float(np.vdot(difference, difference))


def row_chunks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about CHUNK_VALUES values."""
    step = max(1, CHUNK_VALUES // columns)
    for begin in range(0, rows, step):
        yield begin, min(rows, begin + step)

"""Operands of the linear layer in integers (kernels/linear/fixed.cc), laid out by numpy, and the calls that take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer
from tools.hexagon.operands import ROW_BLOCK, pack_values, split_planes


def pack(weight: NDArray[np.int8], scales: NDArray[np.generic], zeros: NDArray[np.int16] | None, bits: int, group_size: int) -> bytes:
    """weight (rows, K), scales (rows, groups) in float16 or float32 -> all of kernels/linear/linear.h."""
    rows, cols = weight.shape
    groups, blocks = scales.shape[1], -(-rows // ROW_BLOCK)
    more = blocks * ROW_BLOCK - rows
    wide = np.pad(weight, ((0, more), (0, groups * group_size - cols)))

    def header(values: NDArray[np.generic]) -> NDArray[np.uint8]:
        by_block = np.pad(values, ((0, more), (0, 0))).reshape(blocks, ROW_BLOCK, groups)
        return np.ascontiguousarray(by_block.transpose(0, 2, 1)).view(np.uint8)

    parts = [header(scales), *([] if zeros is None else [header(zeros)]), pack_values(wide, bits, group_size)]
    return np.concatenate(parts, axis=2).tobytes()


class Linear(NamedTuple):
    """One call; kernels do row blocks [begin, end) of it."""

    x: NDArray[np.int16]  # (tokens, groups * group_size)
    x_bits: int
    exponents: NDArray[np.int32]  # (tokens, groups)
    weight: NDArray[np.int8]  # (rows, cols)
    scales: NDArray[np.generic]  # (rows, groups), float16 or float32
    zeros: NDArray[np.int16] | None  # (rows, groups)
    bits: int
    group_size: int
    bias: NDArray[np.int32] | None = None  # (rows)
    residual: NDArray[np.int32] | None = None  # (tokens, stride), of the last token only what the layer has
    stride: int = 0  # of outputs; 0: rows

    def run(self, server: TestServer, kernel: str, begin: int = 0, end: int | None = None) -> tuple[NDArray[np.generic], Counts]:
        """The whole output (flat; 0xcd where nothing is written) and what the kernel took."""
        tokens, (rows, cols) = len(self.x), self.weight.shape
        groups, stride = self.scales.shape[1], self.stride or rows
        last = -(-rows // ROW_BLOCK) if end is None else end
        grouped = self.x.reshape(tokens, groups, self.group_size)
        planes = split_planes(self.x) if self.x_bits == 16 else self.x.astype(np.int8)
        first = grouped >> 8 if self.x_bits == 16 else grouped
        sums = np.stack([grouped.sum(-1, dtype=np.int32), first.sum(-1, dtype=np.int32)], axis=-1)
        packed = np.frombuffer(pack(self.weight, self.scales, self.zeros, self.bits, self.group_size), np.uint8)
        empty = np.zeros(0, np.int32)
        inputs = [planes, self.exponents, sums, packed]
        inputs += [empty if self.bias is None else self.bias, empty if self.residual is None else self.residual]
        scalars = [tokens, cols, self.x_bits, rows, self.bits, self.group_size, self.scales.dtype.itemsize * 8, int(self.zeros is not None)]
        scalars += [stride, int(self.bias is not None), int(self.residual is not None), begin, last]
        (out,), counts = server.call(kernel, scalars, inputs, [Output(((tokens - 1) * stride + rows,), np.int32)])
        return out, counts


def count_linear(server: TestServer) -> dict[str, int]:
    """Packets by case, scaling and unpacking of scales included; scales as the models' are."""
    found: dict[str, int] = {}
    cases = [(4, 16, 128, tokens, 512, 1536) for tokens in (1, 2, 4, 32)] + [(4, 16, 32, 32, 512, 1536), (4, 8, 128, 32, 512, 1536)]
    cases += [(4, 16, 128, tokens, 2048, 2048) for tokens in (1, 4)]  # of Qwen3-1.7B
    cases += [(8, 16, 512, 1, 512, 1536), (8, 16, 512, 32, 512, 1536), (8, 16, 384, 32, 512, 768), (8, 8, 512, 32, 512, 1536)]
    cases += [(8, 16, 512, 2, 512, 1024), (8, 8, 512, 32, 512, 1024)]  # groups in pairs
    for bits, x_bits, group, tokens, rows, cols in cases:
        call = random_linear(np.random.default_rng(0), tokens, rows, cols, bits, group, x_bits=x_bits, scale=0.001)
        found[f"linear W{bits}A{x_bits}, {tokens} x {rows} x {cols}, groups of {group}"] = call.run(server, "linear_hvx")[1].packets
    return found


def random_linear(
    rng: np.random.Generator, tokens: int, rows: int, cols: int, bits: int, group_size: int, *, x_bits: int = 16, scale: float = 0.004,
    scale_bits: int = 16, zero_points: bool = False, bias: bool = False, residual: bool = False, stride: int = 0,
) -> Linear:  # fmt: skip
    """Of values over their whole range; scales around `scale`."""
    limit, groups = 1 << (bits - 1), -(-cols // group_size)
    most = (1 << (x_bits - 1)) - 1
    x = rng.integers(-most, most + 1, (tokens, groups * group_size), np.int16)
    x[:, cols:] = 0
    scales = (scale * np.exp(rng.normal(0, 0.7, (rows, groups)))).clip(0, 60000).astype(np.float16 if scale_bits == 16 else np.float32)
    integers = np.iinfo(np.int32)
    ends = (tokens - 1) * (stride or rows) + rows
    return Linear(
        x, x_bits, rng.integers(0, 32 - x_bits, (tokens, groups), np.int32, endpoint=True),
        rng.integers(-limit, limit, (rows, cols), np.int8), scales,
        rng.integers(-limit, limit, (rows, groups), np.int16) if zero_points else None, bits, group_size,
        rng.integers(-(1 << 20), 1 << 20, rows, np.int32) if bias else None,
        rng.integers(integers.min, integers.max, ends, np.int32, endpoint=True) if residual else None, stride,
    )  # fmt: skip

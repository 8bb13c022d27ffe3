"""Calls of the kernels that take rows of activations (add, embed, quantize), with operands laid out by numpy."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer
from tools.hexagon.linear_operands import pack

Arrays = list[NDArray[np.generic]]


def _quantized(rows: int, cols: int, group_size: int, bits: int) -> list[Output]:
    groups = -(-cols // group_size)
    q = Output((rows, groups * group_size * bits // 8), np.uint8)
    return [q, Output((rows, groups), np.int32), Output((rows, groups, 2), np.int32)]


def quantize(
    server: TestServer, kernel: str, x: NDArray[np.int32], group_size: int, bits: int, *, stride: int = 0, at: int = 0,
    part: tuple[int, int] | None = None,
) -> tuple[Arrays, Counts]:  # fmt: skip
    """x (rows, cols), laid out with `stride` and `at` numbers after an aligned address -> q, exponents, sums of the rows of `part`."""
    rows, cols = x.shape
    stride = stride or cols
    wide = np.full(at + rows * stride, 0x7FFFFFFF, np.int32)
    wide[at:].reshape(rows, stride)[:, :cols] = x
    scalars = [rows, cols, group_size, bits, *(part or (0, rows)), stride, at]
    return server.call(kernel, scalars, [wide[: at + (rows - 1) * stride + cols]], _quantized(rows, cols, group_size, bits))


def quantize_i16(
    server: TestServer, kernel: str, x: NDArray[np.int16], group_size: int, scale: float, *, at: int = 0
) -> tuple[Arrays, Counts]:
    rows, cols = x.shape
    (word,) = struct.unpack("<i", struct.pack("<f", scale))
    data = np.concatenate([np.full(at, 0x7FFF, np.int16), x.ravel()])
    return server.call(kernel, [rows, cols, group_size, 16, 0, rows, word, at], [data], _quantized(rows, cols, group_size, 16))


def add(
    server: TestServer, kernel: str, a: NDArray[np.int32], b: NDArray[np.int32], *, at: int = 0, part: tuple[int, int] | None = None
) -> tuple[NDArray[np.generic], Counts]:
    """a + b of (rows, cols), all three operands `at` numbers after an aligned address; flat, those numbers in front."""
    rows, cols = a.shape
    inputs = [np.concatenate([np.full(at, 1, np.int32), operand.ravel()]) for operand in (a, b)]
    (out,), counts = server.call(kernel, [rows, cols, *(part or (0, rows)), at], inputs, [Output((at + rows * cols,), np.int32)])
    return out, counts


def embed(
    server: TestServer, kernel: str, ids: NDArray[np.int32], weight: NDArray[np.int8], scales: NDArray[np.generic],
    zeros: NDArray[np.int16] | None, bits: int, group_size: int, *, stride: int = 0,
) -> tuple[NDArray[np.generic], Counts]:  # fmt: skip
    """Rows of weight (vocab, hidden), flat."""
    rows, (vocab, hidden) = len(ids), weight.shape
    stride = stride or hidden
    scalars = [rows, vocab, hidden, bits, group_size, scales.dtype.itemsize * 8, int(zeros is not None), stride, 0, rows]
    packed = np.frombuffer(pack(weight, scales, zeros, bits, group_size), np.uint8)
    (out,), counts = server.call(kernel, scalars, [ids, packed], [Output(((rows - 1) * stride + hidden,), np.int32)])
    return out, counts


def count_rows(server: TestServer) -> dict[str, int]:
    """Packets by case, for tools/hexagon/packets.py."""
    rng = np.random.default_rng(0)
    x = rng.integers(-(1 << 18), 1 << 18, (8, 1536), np.int32)
    found = {
        f"quantize A{bits}, 8 x 1536, groups of {group}": quantize(server, "quantize_hvx", x, group, bits)[1].packets
        for group, bits in ((128, 16), (512, 16), (128, 8))
    }
    patches = rng.integers(-32768, 32768, (8, 768), np.int16)
    found["quantize_i16, 8 x 768, groups of 384"] = quantize_i16(server, "quantize_i16_hvx", patches, 384, 1 / 32768)[1].packets
    found["add, 8 x 1536"] = add(server, "add_hvx", x, x)[1].packets
    weight, scales = rng.integers(-8, 8, (64, 2048), np.int8), rng.uniform(0.001, 0.01, (64, 16)).astype(np.float16)
    found["embed W4, 8 x 2048, groups of 128"] = embed(
        server, "embed_hvx", rng.integers(0, 64, 8, np.int32), weight, scales, None, 4, 128
    )[1].packets
    return found

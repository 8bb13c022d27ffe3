"""Calls of the kernels that work on rows of int32, or move them: contracts in kernels/{activation,norm,pixel_shuffle,patchify}."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer

ACTIVATIONS = {"gelu_tanh": 0, "gelu_erf": 1, "silu": 2, "relu": 3, "quick_gelu": 4}
Words = NDArray[np.int32]


class Rows(NamedTuple):
    """Where the rows lie and which of them a call does."""

    begin: int = 0
    end: int | None = None  # None: all
    before: tuple[int, ...] = (0, 0, 0)  # words in front of the output and of each input: 128 bytes are 32 of them
    in_place: bool = False  # the output is the first input


def extreme_words(rng: np.random.Generator, shape: tuple[int, ...], bits: int = 31) -> Words:
    """All magnitudes below 2^bits, with the ends of the range among them."""
    low, high = -(1 << bits), (1 << bits) - 1
    x = rng.integers(low, high, shape, endpoint=True) >> rng.integers(0, bits + 1, shape)
    return np.where(rng.random(shape) < 0.05, rng.choice([low, high, 0, -1], shape), x).astype(np.int32)


def _run(server: TestServer, kernel: str, head: list[int], inputs: list[Words], at: Rows) -> tuple[Words, Counts]:
    rows, cols = inputs[0].shape
    offsets = at.before[1 : 1 + len(inputs)]
    scalars = [*head, rows, cols, at.begin, rows if at.end is None else at.end, at.before[0], int(at.in_place), *offsets]
    padded = [np.pad(x.ravel(), (offset, 0)) for x, offset in zip(inputs, offsets, strict=True)]
    (out,), counts = server.call(kernel, scalars, padded, [Output((at.before[0] + rows * cols,), np.int32)])
    return out.astype(np.int32), counts


def activation(server: TestServer, variant: str, kind: str, x: Words, at: Rows) -> tuple[Words, Counts]:
    """The whole output buffer, also what the kernel left alone."""
    return _run(server, f"activation_{variant}", [ACTIVATIONS[kind]], [x], at)


def silu_mul(server: TestServer, variant: str, gate: Words, up: Words, at: Rows) -> tuple[Words, Counts]:
    return _run(server, f"silu_mul_{variant}", [], [gate, up], at)


class Norm(NamedTuple):
    """Operands of kernels/norm. strides: words, None for the columns'; before: words in front of x, weight, bias and output."""

    x: Words  # (rows, cols)
    weight: Words  # (cols): mantissas and exponents
    bias: Words  # (cols)
    eps: float
    layer: bool  # LayerNorm
    strides: tuple[int | None, int | None] = (None, None)
    before: tuple[int, int, int, int] = (0, 0, 0, 0)
    begin: int = 0
    end: int | None = None
    in_place: bool = False

    def run(self, server: TestServer, variant: str) -> tuple[Words, Counts]:
        """The whole output buffer, also what the kernel left alone."""
        rows, cols = self.x.shape
        x_stride, out_stride = (cols if stride is None else stride for stride in self.strides)
        x = np.pad(self.x, ((0, 0), (0, x_stride - cols)), constant_values=0x7FEDCBA9).ravel()
        inputs = [x, self.weight, self.bias if self.layer else self.bias[:0]]
        padded = [np.pad(words, (offset, 0), constant_values=0x12345678) for words, offset in zip(inputs, self.before[:3], strict=True)]
        eps = int(np.float32(self.eps).view(np.int32))
        end = rows if self.end is None else self.end
        scalars = [int(self.layer), eps, rows, cols, self.begin, end, x_stride, out_stride, int(self.in_place), *self.before]
        output = Output((self.before[3] + rows * out_stride,), np.int32)
        (out,), counts = server.call(f"norm_{variant}", scalars, padded, [output])
        return out.astype(np.int32), counts


def pixel_shuffle(
    server: TestServer, variant: str, x: Words, factor: int, span: tuple[int, int], before: tuple[int, int]
) -> tuple[Words, Counts]:
    """x: (grid_h, grid_w, cols). span: the tokens that are done; before: words in front of x and of the output."""
    scalars = [*x.shape, factor, *span, *before]
    output = Output((before[1] + x.size,), np.int32)
    (out,), counts = server.call(f"pixel_shuffle_{variant}", scalars, [np.pad(x.ravel(), (before[0], 0))], [output])
    return out.astype(np.int32), counts


class Patches(NamedTuple):
    """Operands of kernels/patchify. before: bytes or values in front of image, table and output."""

    image: NDArray[np.uint8]  # (height, width, 3)
    table: NDArray[np.int16]  # (3, 257)
    origin: tuple[int, int]  # top, left
    grid: tuple[int, int]
    patch: int
    before: tuple[int, int, int] = (0, 0, 0)
    span: tuple[int, int] | None = None  # rows of patches; None: all

    def run(self, server: TestServer, variant: str) -> tuple[NDArray[np.int16], Counts]:
        """The whole output buffer, also what the kernel left alone."""
        inputs: list[NDArray[np.uint8] | NDArray[np.int16]]
        inputs = [np.pad(self.image.ravel(), (self.before[0], 0)), np.pad(self.table.ravel(), (self.before[1], 0))]
        scalars = [*self.image.shape[:2], *self.origin, *self.grid, self.patch, *(self.span or (0, self.grid[0])), *self.before]
        output = Output((self.before[2] + self.grid[0] * self.grid[1] * 3 * self.patch**2,), np.int16)
        (out,), counts = server.call(f"patchify_{variant}", scalars, inputs, [output])
        return out.astype(np.int16), counts


def count_packets(server: TestServer) -> dict[str, int]:
    """Packets by case, for tools/hexagon/packets.py: rows of the model's sizes with usual values."""
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}

    def values(*shape: int) -> Words:
        return rng.integers(-(1 << 18), 1 << 18, shape, np.int32)

    for kind in ("gelu_tanh", "silu", "relu"):
        found[f"activation {kind}, 4 x 3072"] = activation(server, "hvx", kind, values(4, 3072), Rows())[1].packets
    found["silu_mul, 4 x 3072"] = silu_mul(server, "hvx", values(4, 3072), values(4, 3072), Rows())[1].packets
    for layer, rows, cols in [(False, 1, 2048), (False, 16, 2048), (False, 16, 128), (True, 16, 1024)]:
        weight = ((rng.integers(1 << 14, 1 << 15, cols) << 16) | (-14 & 0xFFFF)).astype(np.int32)
        operands = Norm(values(rows, cols), weight, values(cols), 1e-6, layer)
        found[f"{'LayerNorm' if layer else 'RMSNorm'}, {rows} x {cols}"] = operands.run(server, "hvx")[1].packets
    found["pixel_shuffle by 2, 4 x 4 x 1024"] = pixel_shuffle(server, "hvx", values(4, 4, 1024), 2, (0, 4), (0, 0))[1].packets
    for patch in (14, 16):
        image = rng.integers(0, 256, (2 * patch, 8 * patch, 3), np.uint8)
        patches = Patches(image, rng.integers(-32768, 32768, (3, 257), np.int16), (0, 0), (2, 8), patch)
        found[f"patchify, 2 x 8 of {patch}"] = patches.run(server, "hvx")[1].packets
    return found

"""Calls of the VRC's layers (kernels/vrc/vrc.h) in the test server, with random operands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer

Bytes = NDArray[np.uint8]
LANES, PIXEL_BLOCK = 16, 8


class Call(NamedTuple):
    """Scalars but the range of work and the bytes before the input, which come last; inputs, and the bytes of the output."""

    kernel: str
    scalars: list[int]
    inputs: list[NDArray[np.generic]]
    out_bytes: int
    units: int

    def run(self, server: TestServer, variant: str, span: tuple[int, int] | None = None, before: int = 0) -> tuple[Bytes, Counts]:
        """The output, 0xcd where nothing was written. span: the work units that are done; before: bytes in front of the input."""
        begin, end = span or (0, self.units)
        first = np.concatenate([np.full(before, 7, np.uint8), self.inputs[0].ravel()])
        output = Output((self.out_bytes,), np.uint8)
        scalars = [*self.scalars, begin, end, before]
        (out,), counts = server.call(f"vrc_{self.kernel}_{variant}", scalars, [first, *self.inputs[1:]], [output])
        return out.astype(np.uint8), counts


def requantisation(rng: np.random.Generator, channels: int, taps: int, *, low: bool) -> NDArray[np.int32]:
    """Bias, multiplier and shift. low: among them shifts below 33, whose results fit into 32 bits all the same."""
    most = 255 * 128 * taps
    bias = rng.integers(-most, most, channels)
    multiplier = rng.integers(1 << 30, 1 << 31, channels)
    shift = rng.integers(33, 44, channels)
    if low:
        odd = rng.random(channels) < 0.5
        shift = np.where(odd, rng.integers(31, 34, channels), shift)
        few = rng.random(channels) < 0.1
        shift = np.where(few, rng.integers(33, 63, channels), shift)
    return np.concatenate([bias, multiplier, shift]).astype(np.int32)


def _weight(rng: np.random.Generator, size: int) -> NDArray[np.int8]:
    return np.where(rng.random(size) < 0.1, -128, rng.integers(-128, 128, size)).astype(np.int8)


def stem(rng: np.random.Generator, height: int, width: int, channels: int, *, low: bool = False) -> Call:
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    weight = _weight(rng, channels * 36).reshape(channels // LANES, 9, LANES, 4)
    weight[:, 2::3, :, 1:] = 0  # a line has nine bytes of its twelve
    out_height, out_width = (height + 1) // 2, (width + 1) // 2
    inputs: list[NDArray[np.generic]] = [image, weight, requantisation(rng, channels, 27, low=low)]
    return Call("stem", [height, width, channels], inputs, out_height * out_width * channels, out_height)


def depthwise(
    rng: np.random.Generator, height: int, width: int, channels: int, stride: int, zero_point: int, *, low: bool = False
) -> Call:
    x = rng.integers(0, 256, (height, width, channels), np.uint8)
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    inputs: list[NDArray[np.generic]] = [x, _weight(rng, channels * 9), requantisation(rng, channels, 9, low=low)]
    return Call("depthwise", [height, width, channels, stride, zero_point], inputs, out_height * out_width * channels, out_height)


def pointwise(
    rng: np.random.Generator, pixels: int, stride: int, k_groups: int, channels: int, zero_point: int, *, residual: bool = False,
    low: bool = False,
) -> Call:  # fmt: skip
    x = rng.integers(0, 256, (pixels, stride), np.uint8)
    other = rng.integers(0, 256, pixels * channels if residual else 0, np.uint8)
    shift = int(rng.integers(29, 36)) if residual else 0
    scalars = [pixels, stride, k_groups, channels, zero_point, int(rng.integers(1 << 30, (1 << 31) - 1)), shift]
    weight, requant = _weight(rng, channels * k_groups * 4), requantisation(rng, channels, 4 * k_groups, low=low)
    inputs: list[NDArray[np.generic]] = [x, weight, requant, other]
    return Call("pointwise", scalars, inputs, pixels * channels, -(-pixels // PIXEL_BLOCK))


def pool(rng: np.random.Generator, pixels: int, channels: int, stride: int) -> Call:
    x, weight = rng.integers(0, 256, (pixels, channels), np.uint8), rng.integers(0, 256, (pixels, stride), np.uint8)
    return Call("pool", [pixels, channels, stride], [x, weight], channels, channels // LANES)


def count_vrc(server: TestServer) -> dict[str, int]:
    """Packets by case, of layers of MobileNetV2-1.0."""
    rng = np.random.default_rng(0)
    calls = {
        "VRC stem, 8 x 224 to 32 channels": stem(rng, 8, 224, 32),
        "VRC depthwise, 8 x 56 x 144": depthwise(rng, 8, 56, 144, 1, 0),
        "VRC depthwise by 2, 8 x 112 x 96": depthwise(rng, 8, 112, 96, 2, 0),
        "VRC depthwise, 7 x 7 x 960": depthwise(rng, 7, 7, 960, 1, 0),
        "VRC pointwise, 112 x 32 to 16": pointwise(rng, 112, 32, 8, 16, 128),
        "VRC pointwise, 112 x 24 to 144": pointwise(rng, 112, 32, 6, 144, 0),
        "VRC pointwise, 49 x 960 to 160, with residual": pointwise(rng, 49, 960, 240, 160, 128, residual=True),
        "VRC pool, 49 x 1280": pool(rng, 49, 1280, 16),
    }
    return {name: call.run(server, "hvx")[1].packets for name, call in calls.items()}

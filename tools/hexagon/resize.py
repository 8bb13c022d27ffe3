"""Calls of the two passes of resizing (kernels/resize/resize.h)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.hexagon.client import Counts, Output, TestServer


class Pass(NamedTuple):
    """One pass over an image. before: bytes in front of the image and of the output; span: the output's lines that are done."""

    image: NDArray[np.uint8]  # (height, width, 3)
    first: NDArray[np.int32]  # (out_size)
    weights: NDArray[np.int32]  # (out_size, taps)
    vertical: bool
    before: tuple[int, int] = (0, 0)
    span: tuple[int, int | None] = (0, None)

    def run(self, server: TestServer, variant: str) -> tuple[NDArray[np.uint8], Counts]:
        """The whole output buffer, also what the kernel left alone."""
        height, width, _ = self.image.shape
        out_size, taps = self.weights.shape
        lines, columns = (out_size, width) if self.vertical else (height, out_size)
        end = lines if self.span[1] is None else self.span[1]
        scalars = [height, width, out_size, taps, self.span[0], end, *self.before]
        inputs = [np.pad(self.image.ravel(), (self.before[0], 0)), self.first, self.weights]
        output = Output((self.before[1] + lines * columns * 3,), np.uint8)
        kernel = f"resize_{'vertical' if self.vertical else 'horizontal'}_{variant}"
        (out,), counts = server.call(kernel, scalars, inputs, [output])
        return out.astype(np.uint8), counts


def cubic_taps(in_size: int, out_size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First source index and weights of each output, as the antialiased cubic of Pillow has them but for rounding; for shrinking."""
    scale = in_size / out_size
    center = (np.arange(out_size) + 0.5) * scale
    taps = min(int(4 * scale) + 2, in_size)
    first = np.clip((center - 2 * scale + 0.5).astype(int), 0, in_size - taps)
    x = np.abs((first[:, None] + np.arange(taps) + 0.5 - center[:, None]) / scale)
    raw = np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
    return first.astype(np.int32), np.rint(raw / raw.sum(1, keepdims=True) * (1 << 22)).astype(np.int32)


def count_resize(server: TestServer) -> dict[str, int]:
    """Packets by case."""
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}
    for height, width, out_size, vertical in ((128, 1000, 448, False), (1000, 448, 128, True), (32, 4000, 224, False)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        one = Pass(image, *cubic_taps(height if vertical else width, out_size), vertical)
        way = "vertically" if vertical else "horizontally"
        found[f"resize {height} x {width} {way} to {out_size}"] = one.run(server, "hvx")[1].packets
    return found

"""From a picture to what the vision branch sees: the one place where training resizes, normalises and pads.

The engine's own preprocessing (docs/checkpoint.md, steps 1-3) gives the same numbers to one unit in the last place:
tests/test_train_preprocess.py compares the two. Pillow's is used here because training must not need a compiled engine.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

ALIGN = 16  # patch_size * pixel_shuffle
MEAN = STD = 0.5


def scaled_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """The size after the scale, as the engine rounds it."""
    return max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))


def padded(side: int) -> int:
    return -(-side // ALIGN) * ALIGN


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def pixel_values(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(3, H, W) float32, normalised, padded right and below with zeros to multiples of ALIGN."""
    pixels = np.asarray(resize(image, size), dtype=np.float32)
    out = np.zeros((3, padded(size[1]), padded(size[0])), dtype=np.float32)
    out[:, : size[1], : size[0]] = ((pixels / 255.0 - MEAN) / STD).transpose(2, 0, 1)
    return out


def visual_tokens(width: int, height: int, tile: int = 128) -> int:
    """Image tokens of a picture of this (scaled) size, separators included."""
    w, h = padded(width), padded(height)
    cols, rows = -(-w // tile), -(-h // tile)
    return (w // ALIGN) * (h // ALIGN) + rows * (cols - 1) + rows - 1

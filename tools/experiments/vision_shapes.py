"""The two vision branches' shapes, for engines that are built from them."""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 16


@dataclass(frozen=True)
class VisionShape:
    layers: int
    hidden: int
    heads: int
    inner: int

    def operations(self, tokens: int) -> float:
        """Multiplications and additions of a whole pass over `tokens` patches, patch embedding included."""
        linear = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        return tokens * (self.layers * (2 * linear + 4 * tokens * self.hidden) + 2 * 3 * PATCH * PATCH * self.hidden)


SHAPES = {"base": VisionShape(12, 768, 12, 3072), "large": VisionShape(24, 1024, 16, 4096)}


def tokens_of(image: int) -> int:
    """Patches of a square image of that side."""
    return (image // PATCH) ** 2

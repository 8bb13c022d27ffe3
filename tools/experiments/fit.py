"""Fits and crossings: how latency and memory grow, and the image size from which one curve is a given factor above another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """p of the best y = c * x ** p, by least squares of the logarithms. ValueError without two different x."""
    if len(set(x)) < 2 or len(x) != len(y) or min(*x, *y) <= 0:
        raise ValueError(f"got {len(x)} x and {len(y)} y: expected as many of both, positive, at two different x or more")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


class Curve:
    """A quantity measured at some image sides: between them interpolated in logarithms, beyond them extrapolated.

    Extrapolation is by c0 + c1 * n + c2 * n ** 2 of n = pixels (powers of n as given), coefficients not negative, fitted to relative
    errors, and scaled so that it goes on from the outermost measurement.
    """

    def __init__(self, points: dict[int, float], powers: Sequence[int]) -> None:
        """points: side -> value. ValueError for fewer than two, or values that are not positive."""
        if len(points) < 2 or min(points.values()) <= 0:
            raise ValueError(f"got {points}: expected positive values at two sides or more")
        self.sides = sorted(points)
        self.points = points
        self._fit = _growth([s * s for s in self.sides], [points[s] for s in self.sides], powers)

    def at(self, side: float) -> float:
        for end in (self.sides[0], self.sides[-1]):
            if (side < end) == (end == self.sides[0]) and side != end:
                return self._fit(side * side) * self.points[end] / self._fit(end * end)
        return float(np.exp(np.interp(np.log(side), np.log(self.sides), np.log([self.points[s] for s in self.sides]))))

    def extrapolated(self, side: float) -> bool:
        return not self.sides[0] <= side <= self.sides[-1]


def _growth(n: Sequence[float], values: Sequence[float], powers: Sequence[int]) -> Callable[[float], float]:
    """Least squares of relative errors with coefficients that are not negative: the best of all subsets of the few terms."""
    x, y = np.asarray(n, float) / max(n), np.asarray(values, float)
    best: tuple[float, dict[int, float]] | None = None
    for count in range(1, min(len(powers), len(y)) + 1):
        for chosen in itertools.combinations(powers, count):
            rows = np.stack([x**p for p in chosen], axis=1) / y[:, None]
            terms = np.linalg.lstsq(rows, np.ones(len(y)), rcond=None)[0]
            error = float(np.sum((rows @ terms - 1) ** 2))
            if terms.min() >= 0 and (best is None or error < best[0]):
                best = error, dict(zip(chosen, terms.tolist(), strict=True))
    assert best is not None  # a single term's coefficient is positive
    coefficients, largest = best[1], max(n)
    return lambda at: float(sum(c * (at / largest) ** p for p, c in coefficients.items()))


def crossing(ours: Curve, theirs: Curve, factor: float, *, least: int = 224, most: int = 16384, step: int = 16) -> int | None:
    """The smallest image side from which on theirs is at least `factor` times ours up to `most`; None when it is not at `most`."""
    found = None
    for side in range(most, least - 1, -step):
        if theirs.at(side) < factor * ours.at(side):
            break
        found = side
    return found

"""What this machine could do: memory reads and multiplications a second, measured. Benchmarks give their share of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import _core

READ, CLOCK = "read", "clock"
# Multiplications and additions, by what is multiplied; which instruction does it differs between instruction sets.
_UNITS = {READ: "GB/s", CLOCK: "GHz", "f32": "GFLOP/s", "bf16": "GFLOP/s", "int8": "GOP/s", "int16": "GOP/s"}
_ORDER = (READ, "f32", "bf16", "int8", "int16", CLOCK)
_RUNS, _SECONDS = 8, 0.005  # short, so that on a busy machine some run is not interrupted; the best of them counts


class Limits:
    """Samples of this machine's limits in `threads` threads, with the instructions of `isa` (default: the one in use, see HVL_FORCE_ISA).

    The first sample of "read" takes half a GiB of memory, and more where the last cache is larger than 32 MiB, until all such objects go.
    """

    def __init__(self, threads: int, isa: str = "") -> None:
        """ValueError unless threads is 1 to 1024 and the machine has the instruction set."""
        self._roofline = _core.Roofline(threads, isa)
        self.threads = threads
        kinds = self._roofline.kinds
        self.kinds: dict[str, str] = {name: kinds[name] for name in _ORDER if name in kinds}  # name -> instructions

    def sample(self, kind: str, *, runs: int = _RUNS, seconds: float = _SECONDS) -> list[float]:
        """Operations, bytes or cycles a second in each of `runs` short runs. ValueError for a kind this machine does not have."""
        return [self._roofline.rate(kind, seconds) for _ in range(runs)]

    def dots(self) -> str:
        """The kind that bounds matrix products of 8-bit planes: "int8", or what comes nearest."""
        return next(kind for kind in ("int8", "f32", CLOCK) if kind in self.kinds)

    def beside(self, kind: str, work: Callable[[], float], *, rounds: int) -> Beside:
        """Runs `work`, which returns seconds, `rounds` times with samples of a limit before and after each."""
        seconds, rates = [], []
        before = max(self.sample(kind))
        for _ in range(rounds):
            seconds.append(work())
            after = max(self.sample(kind))
            rates.append((before + after) / 2)
            before = after
        return Beside(kind, tuple(seconds), tuple(rates))


@dataclass(frozen=True)
class Beside:
    """Times of some work, and the limit's rate around each: machines drift, so that only both together say something."""

    kind: str
    seconds: tuple[float, ...]
    rates: tuple[float, ...]

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_rate(self) -> float:
        return statistics.median(self.rates)

    def share(self, amount: float) -> float:
        """Of the limit, when the work was `amount` bytes or operations: the median over the rounds."""
        return statistics.median(amount / s / rate for s, rate in zip(self.seconds, self.rates, strict=True))


def thread_counts(most: int) -> list[int]:
    """1 to `most` threads, powers of two between for more than eight."""
    if most <= 8:
        return list(range(1, most + 1))
    return sorted({most, *(1 << i for i in range(most.bit_length()))})


def roofline(threads: Sequence[int], *, runs: int = 5) -> dict[str, Any]:
    """Median, least and most of each limit for each number of threads (plain data, for JSON).

    Kinds and numbers of threads take turns, so that a machine that slows down does so for all of them. ValueError without threads or runs.
    """
    if not threads or runs < 1:
        raise ValueError(f"threads is {list(threads)}, runs is {runs}: expected at least one of each")
    limits = [Limits(count) for count in threads]
    kinds = limits[0].kinds
    rates: dict[tuple[str, int], list[float]] = {(kind, limit.threads): [] for kind in kinds for limit in limits}
    for _ in range(runs):
        for kind in kinds:
            for limit in limits:
                rates[kind, limit.threads] += limit.sample(kind, runs=1, seconds=0.02)
    return {
        "isa": _core.cpu_info()["isa"],
        "threads": list(threads),
        "limits": {
            kind: {
                "instructions": instructions,
                "unit": _UNITS[kind],
                "rates": {
                    str(count): {
                        "median": statistics.median(rates[kind, count]) / 1e9,
                        "least": min(rates[kind, count]) / 1e9,
                        "most": max(rates[kind, count]) / 1e9,
                    }
                    for count in threads
                },
            }
            for kind, instructions in kinds.items()
        },
    }


def table(report: dict[str, Any]) -> str:
    """The report for people: medians, and the spread in percent of them."""
    counts = [str(count) for count in report["threads"]]
    lines = [f"{report['isa']}, threads: " + ", ".join(counts)]
    for kind, limit in report["limits"].items():
        cells = []
        for count in counts:
            rate = limit["rates"][count]
            spread = (rate["most"] - rate["least"]) / rate["median"]
            cells.append(f"{rate['median']:8.1f} (±{spread / 2:3.0%})")
        lines.append(f"{kind:6s} {'  '.join(cells)} {limit['unit']:8s} {limit['instructions']}")
    return "\n".join(lines)

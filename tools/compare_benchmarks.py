"""Compares two files of `pytest --benchmark-json` from one machine and fails where something became slower.

    python tools/compare_benchmarks.py BASELINE NEW [--limit 1.1]

Times are never compared as they are: each is first multiplied by the machine's limit that was measured beside it (memory reads, dot
products or the clock; conftest.py), so that a machine which runs slower today does so in both factors. What is compared is the cost of a
benchmark in bytes, operations or cycles that the machine could have done meanwhile. Exit code 0: nothing grew by more than the limit; 1:
something did; 2: the files do not compare.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotComparableError(ValueError):
    """Two files, or two benchmarks, that say nothing about each other."""


@dataclass(frozen=True)
class Cost:
    """seconds: the fastest run, which others disturbed least; rate: of `limit` at its best around it."""

    seconds: float
    limit: str
    threads: int
    rate: float

    @property
    def normalised(self) -> float:
        """What the machine could have done in that time."""
        return self.seconds * self.rate


@dataclass(frozen=True)
class Run:
    """A file: which machine, and the benchmarks by name."""

    machine: tuple[str, ...]
    costs: dict[str, Cost]


@dataclass(frozen=True)
class Comparison:
    """ratios: cost in the new file over that in the baseline. Of the rest only names are known."""

    ratios: dict[str, float]
    missing: list[str]
    added: list[str]
    incomparable: list[str]

    def slower(self, limit: float) -> list[str]:
        """Names whose cost grew by more than the limit, worst first."""
        return sorted((name for name, ratio in self.ratios.items() if ratio > limit), key=lambda name: -self.ratios[name])

    def mean(self) -> float:
        """Geometric mean of all ratios."""
        return math.exp(math.fsum(math.log(ratio) for ratio in self.ratios.values()) / len(self.ratios))


def read(path: Path) -> Run:
    """NotComparableError for a file that pytest-benchmark did not write, or without limits beside the times."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        machine = content["machine_info"]
        cpu = machine["cpu"]
        costs = {}
        for entry in content["benchmarks"]:
            info = entry["extra_info"]
            cost = Cost(float(entry["stats"]["min"]), str(info["limit"]), int(info["threads"]), float(info["limit_rate"]))
            if not (cost.seconds > 0 and cost.rate > 0):
                raise NotComparableError(f"{path}: {entry['fullname']}: expected positive times and limits")
            costs[str(entry["fullname"])] = cost
        return Run((str(cpu.get("brand_raw")), str(cpu.get("count")), str(machine["hypervl_engine"]["isa"])), costs)
    except (OSError, json.JSONDecodeError) as error:
        raise NotComparableError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise NotComparableError(
            f"{path}: expected what `make benchmark` writes, with limits beside the times; {error} is missing"
        ) from None


def compare(baseline: Run, new: Run) -> Comparison:
    """NotComparableError when the files come from different machines or have no benchmark in common."""
    if baseline.machine != new.machine:
        raise NotComparableError(f"the baseline was measured on {', '.join(baseline.machine)}, the new file on {', '.join(new.machine)}")
    both = [name for name in baseline.costs if name in new.costs]
    ratios, incomparable = {}, []
    for name in both:
        before, after = baseline.costs[name], new.costs[name]
        if (before.limit, before.threads) == (after.limit, after.threads):
            ratios[name] = after.normalised / before.normalised
        else:
            incomparable.append(name)
    if not ratios:
        raise NotComparableError("the files have no benchmark in common")
    missing = [name for name in baseline.costs if name not in new.costs]
    return Comparison(ratios, missing, [name for name in new.costs if name not in baseline.costs], incomparable)


def report(found: Comparison, limit: float) -> str:
    """Every benchmark with its ratio, slowest first."""
    lines = []
    for name, ratio in sorted(found.ratios.items(), key=lambda item: -item[1]):
        lines.append(f"{ratio:7.3f} {'SLOWER' if ratio > limit else '      '} {name}")
    for what, names in (("gone", found.missing), ("new", found.added), ("another limit", found.incomparable)):
        lines += [f"        {what}: {name}" for name in names]
    lines.append(
        f"{len(found.slower(limit))} of {len(found.ratios)} slower by more than {limit - 1:.0%}; geometric mean {found.mean():.3f}"
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--limit", type=float, default=1.1, help="the largest ratio of costs that counts as no slower (default: 1.1)")
    options = parser.parse_args(arguments)
    try:
        found = compare(read(options.baseline), read(options.new))
    except NotComparableError as error:
        print(f"compare_benchmarks: {error}", file=sys.stderr)
        return 2
    print(report(found, options.limit))
    return 1 if found.slower(options.limit) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The tables that `tools.experiments.cost_model` puts into docs/cost_model.md: how far predictions are from measurements."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.sections import COST_MODEL, replace_section

DATA = Path("build/experiments/cost_model.json")
TARGET = 0.25  # of the median error
_WORST = 12
Record = dict[str, Any]


def error(record: Record) -> float:
    """Of the prediction, relative to what was measured; positive: too slow."""
    return float(record["predicted_ms"] / record["measured_ms"] - 1)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _distribution(records: Sequence[Record]) -> list[str]:
    errors = [error(r) for r in records]
    absolute = [abs(e) for e in errors]
    predicted, measured = (sum(float(r[name]) for r in records) for name in ("predicted_ms", "measured_ms"))
    return [
        str(len(records)), _percent(statistics.median(absolute)), _percent(float(np.quantile(absolute, 0.9))),
        f"{statistics.median(errors) * 100:+.0f} %", f"{predicted:.1f}", f"{measured:.1f}", f"{(predicted / measured - 1) * 100:+.0f} %",
    ]  # fmt: skip


_COLUMNS = ("ops", "median error", "90th percentile", "median, signed", "predicted, ms", "measured, ms", "of the sum")


def _by(records: Sequence[Record], key: Callable[[Record], str], title: str) -> str:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return _table((title, *_COLUMNS), [(name, *_distribution(group)) for name, group in groups.items()])


def report(data: dict[str, Any]) -> str:
    """Markdown: machine, distribution overall, by checkpoint, Program and kind of op, and the worst ops."""
    records: list[Record] = [r for r in data["records"] if r["measured_ms"] > 0]
    machine = data["machine"]
    noisy = sum(bool(r["noisy"]) for r in records) / len(records)
    total = sum(float(r["measured_ms"]) for r in records)
    worst = sorted(records, key=lambda r: -abs(r["predicted_ms"] - r["measured_ms"]))[:_WORST]
    parts = [
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['threads']} threads of {machine['cores']}, {machine['isa']}; other "
        f"processes took {_percent(machine['others_before'])} of the processors before, and more than 6 % during {_percent(noisy)} of the "
        "records. An op's time is the fastest of several runs, as in the calibration.",
        _table(("", *_COLUMNS), [("all", *_distribution(records))]),
        _by(records, lambda r: f"{r['checkpoint']}, A{r['bits']}", "checkpoint"),
        _by(records, lambda r: r["stage"], "Program"),
        _by(records, lambda r: r["kind"], "kind of op"),
        f"The {_WORST} ops that miss by most time:",
        _table(
            ("checkpoint", "case", "op", "predicted, ms", "measured, ms", "error", "of all time"),
            [
                (
                    f"{r['checkpoint']}, A{r['bits']}", r["case"], f"{r['kind']} {r['name']}", f"{r['predicted_ms']:.3f}",
                    f"{r['measured_ms']:.3f}", f"{error(r) * 100:+.0f} %", f"{r['measured_ms'] / total * 100:.1f} %",
                )
                for r in worst
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def write_report(path: Path = DATA) -> str:
    """Writes the tables into docs/cost_model.md and returns the line that says whether the target was met."""
    data = json.loads(path.read_text())
    replace_section(COST_MODEL, "measured", report(data))
    errors = [abs(error(r)) for r in data["records"] if r["measured_ms"] > 0]
    median = statistics.median(errors)
    verdict = "met" if median <= TARGET else "missed"
    ninth = _percent(float(np.quantile(errors, 0.9)))
    return f"median error {_percent(median)} of {len(errors)} ops, 90th percentile {ninth}: target {verdict}"


if __name__ == "__main__":
    print(write_report())

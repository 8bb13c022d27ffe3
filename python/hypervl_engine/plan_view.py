"""A `Plan` to read: tables by op, lines of memory, and the files of `hypervl-engine plan --out`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .memory_map import Panel, memory_map, size_text
from .plan import Plan, Stage
from .trace import Part, Process, write_trace

Measured = Sequence[tuple[str, Sequence[Any]]]
_ALL = 1 << 30  # repetitions
_MEMORY_TEXT = {
    "weights": "weights, mapped from their file",
    "ddr_arena": "DDR arena: activations that do not stay in fast memory",
    "session_blocks": "session blocks: what Programs hand on to each other",
    "kv_cache": "KV cache, for the whole context",
    "image_source": "decoded image",
    "image_resized": "resized image",
    "visual_embeddings": "visual embeddings kept at a time",
}
_TOTALS_TEXT = {
    "vrc_ms": "resolution compressor",
    "encode_ms": "encoding of all tiles",
    "project_ms": "projector, all tiles",
    "prefill_ms": "prefill",
    "ttft_ms": "first token",
    "decode_ms": "each further token",
}


def table(plan: Plan) -> str:
    """Everything as text: a heading, a table by op of each stage, memory and predicted times."""
    lines = [heading(plan), *notes(plan)]
    for stage, report in zip(plan.stages, plan.reports, strict=True):
        lines += ["", stage_title(stage, report), *_ops(report)]
    lines += ["", "memory"]
    memory = plan.memory
    fast = f"{size_text(memory['fast_peak'])} at the peak, of a budget of {size_text(memory['fast_budget'])}"
    lines.append(f"  {'fast memory':<56}{fast}")
    lines += [f"  {text:<56}{size_text(memory[name])}" for name, text in _MEMORY_TEXT.items()]
    lines += ["", "predicted milliseconds"]
    lines += [f"  {text:<56}{plan.totals[name]:.3f}" for name, text in _TOTALS_TEXT.items()]
    return "\n".join(lines)


def heading(plan: Plan) -> str:
    """One line: what is planned for what."""
    request, image = plan.file.request, plan.image
    height, width = image["resized"]
    resized = "" if (width, height) == (request["width"], request["height"]) else f", resized to {width}x{height}"
    return (
        f"Plan {plan.hash} for {plan.spec.name}: image {request['width']}x{request['height']} at scale {request['scale']:g}{resized}, "
        f"branch {request['branch']}, {_count(image['tiles'], 'tile')}, {_count(image['visual_tokens'], 'visual token')}"
    )


def notes(plan: Plan) -> list[str]:
    """What must be said beside every figure: that it is a prediction, and on what grounds."""
    statuses = Counter(figure.status for figure in plan.spec.figures.values())
    grounds = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    staged = "every operand is transferred into fast memory" if plan.spec.staged else "weights and DDR buffers are read in place"
    return [
        f"All times are predictions of the cost model, from {len(plan.spec.figures)} figures of the target: {grounds}.",
        f"Fast memory: {size_text(plan.file.budget)}; {staged}. Times of repeated sections are sums over all repetitions.",
    ]


def stage_title(stage: Stage, report: dict[str, Any]) -> str:
    """One line over a stage's table or picture."""
    unit = "token" if stage.name in ("decode", "head") else "image"
    parts = [f"{stage.name}: {_count(stage.runs, 'run')} each {unit}, predicted {report['predicted_ms']:.3f} ms a run"]
    if stage.rows is not None:
        parts.append(_count(stage.rows, "row"))
    if stage.position is not None:
        parts.append(f"at position {stage.position}")
    parts.append(
        f"fast memory {size_text(report['peak_bytes'])} of {size_text(report['budget'])}, DDR arena {size_text(report['ddr_bytes'])}"
    )
    return ", ".join(parts)


def write_files(plan: Plan, folder: Path, measured: Measured = ()) -> list[Path]:
    """Writes plan.json, report.json, trace.json and plan.svg into a folder (made if need be) and returns their paths.

    measured: (Program name, events) of a run, as `Stream.trace` has them: they become a process of their own in the
    trace, beside the plan's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("plan.json", "report.json", "trace.json", "plan.svg")]
    plan.save(paths[0])
    paths[1].write_text(json.dumps(plan.to_dict(), indent=1) + "\n", encoding="utf-8")
    reports = with_events(plan)
    write_trace(paths[2], processes(plan, measured, reports))
    paths[3].write_text(picture(plan, reports), encoding="utf-8")
    return paths


def with_events(plan: Plan) -> list[dict[str, Any]]:
    """Every stage's report with the events of all repetitions."""
    return [plan.describe(index, _ALL) for index in range(len(plan.stages))]


def processes(plan: Plan, measured: Measured = (), reports: Sequence[dict[str, Any]] | None = None) -> list[Process]:
    """The plan's stages, each run once, and what was measured, as processes of one trace."""
    parts = []
    for stage, report in zip(plan.stages, reports or with_events(plan), strict=True):
        runs = "" if stage.runs == 1 else f" (one of {stage.runs} runs)"
        parts.append(Part(stage.name + runs, report["events"]))
    out = [Process(f"plan for {plan.spec.name}: predicted", parts)]
    if measured:
        out.append(measured_process(measured))
    return out


def measured_process(measured: Measured) -> Process:
    """The runs of a trace that was taken, one after another."""
    return Process("run: measured", [Part(name, events) for name, events in measured])


def picture(plan: Plan, reports: Sequence[dict[str, Any]] | None = None) -> str:
    """The SVG of all stages."""
    stages = zip(plan.stages, reports or with_events(plan), strict=True)
    return memory_map(heading(plan), notes(plan), [Panel(stage_title(stage, report), report) for stage, report in stages])


_COLUMNS = ("section", "x", "op", "rows x n x k", "in blocks of", "in", "out", "peak", "ms", "bound by")


def _ops(report: dict[str, Any]) -> list[str]:
    """Aligned rows, one an op, and the sum."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    sections = report["sections"]
    for op in report["ops"]:
        section = sections[op["section"]]
        first = op["index"] == section["first_op"]
        name = op["kind"] if op["kind"] == op["name"] else f"{op['kind']} {op['name']}"
        keys = f", {op['block_keys']} keys" if op["block_keys"] else ""
        rows.append((
            section["name"] if first else "", str(section["repeat"]) if first else "", name,
            _sizes(op["rows"], op["n"], op["k"]), _sizes(op["block_rows"], op["block_n"], op["block_k"]) + keys,
            size_text(op["bytes_in"]), size_text(op["bytes_out"]), size_text(op["peak_bytes"]), f"{op['ms']:.3f}", op["bound"],
        ))  # fmt: skip
    total = (
        "sum", "", "", "", "", size_text(report["bytes_in"]), size_text(report["bytes_out"]), size_text(report["peak_bytes"]),
        f"{report['predicted_ms']:.3f}", "",
    )  # fmt: skip
    rows.append(total)
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    right = {1, 5, 6, 7, 8}
    lines = []
    for row in rows:
        cells = [text.rjust(width) if i in right else text.ljust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True))]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _sizes(rows: int, n: int, k: int) -> str:
    return f"{rows} x {n}" if not k else f"{rows} x {n} x {k}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

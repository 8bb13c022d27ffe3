"""Traces in the Chrome format (chrome://tracing, ui.perfetto.dev): what a plan predicts, and what a run measured, side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_TRACKS = {"stage": 0, "compute": 1, "transfer": 2}
_NS = 3  # decimals of a microsecond kept


class Part(NamedTuple):
    """Events of one run of a Program, `_core.Event` dicts with times from the start of that run, under a name."""

    name: str
    events: Sequence[dict[str, Any]]


class Process(NamedTuple):
    """A row group of the trace: parts that follow each other."""

    name: str
    parts: Sequence[Part]


def trace_events(processes: Iterable[Process]) -> list[dict[str, Any]]:
    """The trace's events: slices (`ph` "X", microseconds) in order of time on each track, after the tracks' names.

    Each process has the tracks stage (one slice a part), compute and transfer. Parts of a process follow each other.
    """
    out: list[dict[str, Any]] = []
    for pid, process in enumerate(processes, start=1):
        out.append(_name(pid, 0, "process_name", process.name))
        out += [_name(pid, tid, "thread_name", track) for track, tid in _TRACKS.items()]
        start = 0.0
        for part in process.parts:
            slices, end = _slices(pid, part, start)
            out.append(_slice(pid, _TRACKS["stage"], part.name, "stage", start, end, {}))
            out += slices
            start = end
    return out


def write_trace(path: str | os.PathLike[str], processes: Iterable[Process]) -> None:
    """Writes a trace file."""
    Path(path).write_text(json.dumps({"displayTimeUnit": "ms", "traceEvents": trace_events(processes)}) + "\n", encoding="utf-8")


def _slices(pid: int, part: Part, offset: float) -> tuple[list[dict[str, Any]], float]:
    """The part's slices from `offset` on, and where it ends."""
    out = []
    free = {"compute": offset, "transfer": offset}
    for event in sorted(part.events, key=lambda e: (float(e["start_us"]), float(e["duration_us"]))):
        track = str(event["track"])
        # Rounding may not make two slices of a track overlap: viewers would nest them.
        begin = max(offset + float(event["start_us"]), free[track])
        end = max(begin, offset + float(event["start_us"]) + float(event["duration_us"]))
        begin, end = round(begin, _NS), round(end, _NS)
        free[track] = end
        out.append(_slice(pid, _TRACKS[track], _label(event), _category(event), begin, end, _arguments(event)))
    return out, max(free.values())


def _label(event: dict[str, Any]) -> str:
    if event["track"] == "transfer":
        return f"{'store' if event['store'] else 'load'} for {event['name']}"
    return f"{event['kind']} {event['name']}"


def _category(event: dict[str, Any]) -> str:
    if event["track"] == "transfer":
        return "store" if event["store"] else "load"
    return str(event["kind"])


def _arguments(event: dict[str, Any]) -> dict[str, Any]:
    """What a viewer shows of a slice: where in the plan it belongs, and its bytes."""
    arguments = {name: event[name] for name in ("op", "section", "repetition", "block")}
    for name in ("rows", "units", "keys"):
        begin, end = event[name]
        if end > begin:
            arguments[name] = f"{begin} to {end - 1}"
    if event["track"] == "transfer":
        arguments |= {"bytes": event["bytes"], "transfers": event["transfers"]}
    return arguments


def _slice(pid: int, tid: int, name: str, category: str, begin: float, end: float, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "ph": "X", "pid": pid, "tid": tid, "name": name, "cat": category,
        "ts": round(begin, _NS), "dur": round(end - begin, _NS), "args": args,
    }  # fmt: skip


def _name(pid: int, tid: int, what: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}}

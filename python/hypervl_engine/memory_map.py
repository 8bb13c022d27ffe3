"""A plan as a picture: fast memory over time, each allocation a rectangle, above a Gantt of compute and transfers. SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

WIDTH = 1400
_LEFT, _RIGHT = 96, 24
_PLOT = WIDTH - _LEFT - _RIGHT
_MAP_HEIGHT, _LANE_HEIGHT = 340, 26
_LANES = ("compute", "load", "store")
_TEXT = "#222222"

_MEMORY_COLOURS = {"resident": "#4c78a8", "window": "#f2a65a", "ring": "#72b7b2", "scratch": "#b279a2"}
_MEMORY_TEXT = {
    "resident": "resident: kept for its whole life",
    "window": "window: rows of one block",
    "ring": "ring: two slots for streamed weights and K/V",
    "scratch": "scratch of one op",
}
_OP_COLOURS = {"linear": "#e45756", "attention": "#54a24b", "other": "#9d9da8", "load": "#3a6fb0", "store": "#d9a400"}
_OP_TEXT = {
    "linear": "linear", "attention": "attention", "other": "other ops", "load": "load from DDR", "store": "store to DDR",
}  # fmt: skip


class Panel(NamedTuple):
    """One Program's plan: a title, and its report with the events of all repetitions (`_core.describe_plan`)."""

    title: str
    report: dict[str, Any]


class _Event(NamedTuple):
    lane: str
    begin: float  # microseconds on the axis of the picture
    end: float
    event: dict[str, Any]


def memory_map(heading: str, lines: Sequence[str], panels: Sequence[Panel]) -> str:
    """The whole picture: heading, lines of text below it, a legend, and the panels one below the other.

    Time runs to the right. Sections that repeat are drawn once, and say how often they run; a time axis starts anew with
    each panel.
    """
    body: list[str] = [_text(_LEFT, 34, heading, size=20, weight="bold")]
    y = 58.0
    for line in lines:
        body.append(_text(_LEFT, y, line, size=13))
        y += 19
    y = _legend(body, y + 4)
    for panel in panels:
        y = _panel(body, panel, y + 26)
    height = int(y + 16)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            'font-family="Helvetica, Arial, sans-serif">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )


def _legend(body: list[str], y: float) -> float:
    for head, texts, colours in (("Memory", _MEMORY_TEXT, _MEMORY_COLOURS), ("Time", _OP_TEXT, _OP_COLOURS)):
        body.append(_text(_LEFT, y + 11, head, size=12, weight="bold"))
        x = _LEFT + 64.0
        for kind, text in texts.items():
            body.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="14" height="14" fill="{colours[kind]}"/>')
            body.append(_text(x + 20, y + 11, text, size=12))
            x += 44 + 6.4 * len(text)
        y += 22
    return y


def _panel(body: list[str], panel: Panel, y: float) -> float:
    report = panel.report
    events, spans = _one_repetition(report)
    end = max((e.end for e in events), default=1.0) or 1.0
    body.append(_text(_LEFT, y, panel.title, size=15, weight="bold"))
    y = _sections(body, spans, end, y + 12)
    _map(body, report, events, end, y)
    y = _gantt(body, events, end, y + _MAP_HEIGHT + 8)
    return _time_axis(body, end, y)


def _one_repetition(report: dict[str, Any]) -> tuple[list[_Event], list[tuple[str, int, float, float]]]:
    """The first repetition of every section, without the time of those left out, from 0; and the sections' spans.

    A span: name, repetitions, begin and end.
    """
    out: list[_Event] = []
    spans: list[tuple[str, int, float, float]] = []
    at = left_out = 0.0  # where the picture is, and the time before that is not in it
    for section in report["sections"]:
        mine = [e for e in report["events"] if section["first_op"] <= e["op"] < section["first_op"] + section["op_count"]]
        if not mine:
            continue
        for e in mine:
            if e["repetition"] == 0:
                lane = "compute" if e["track"] == "compute" else "store" if e["store"] else "load"
                # What is fetched ahead, is so while the section before still runs.
                begin = max(0.0, e["start_us"] - left_out)
                out.append(_Event(lane, begin, begin + e["duration_us"], e))
        end = max((e.end for e in out), default=at)
        spans.append((section["name"], section["repeat"], at, end))
        at = end
        left_out = max(e["start_us"] + e["duration_us"] for e in mine) - at
    return out, spans


def _sections(body: list[str], spans: Sequence[tuple[str, int, float, float]], end: float, y: float) -> float:
    """A strip naming the sections, and how often those that repeat run; names that would touch go on lines of their own."""
    free: list[float] = []  # where each line of names ends, from the lowest up
    labels: list[tuple[str, float, int]] = []
    for name, repeat, begin, _ in spans:
        label = name if repeat == 1 else f"{name}: one of {repeat} repetitions shown"
        width = 6.6 * len(label)
        x = min(_x(begin, end), WIDTH - _RIGHT - width)
        line = next((i for i, used in enumerate(free) if x >= used + 12), len(free))
        free[line:] = [x + width, *free[line + 1 :]]
        labels.append((label, x, line))
    top = y + 15 * len(free)
    for index, ((_, _, begin, until), (label, x, line)) in enumerate(zip(spans, labels, strict=True)):
        x0, x1 = _x(begin, end), _x(until, end)
        fill = "#d5dcea" if index % 2 == 0 else "#b9c4da"
        body.append(
            f'<rect x="{x0:.2f}" y="{top:.1f}" width="{max(x1 - x0, 0.5):.2f}" height="7" fill="{fill}" stroke="#99a3b5" '
            f'stroke-width="0.5"><title>{escape(label)}</title></rect>'
        )
        body.append(_text(x, top - 4 - 15 * line, label, size=12))
    return top + 11


def _map(body: list[str], report: dict[str, Any], events: Sequence[_Event], end: float, y: float) -> None:
    """Fast memory: offsets upwards, time to the right."""
    highest = max([report["budget"], report["peak_bytes"], 1])
    top = max(report["peak_bytes"] * 1.08, 1.0) if report["peak_bytes"] < 0.5 * highest else highest * 1.02

    def at(offset: float) -> float:
        return float(y + _MAP_HEIGHT * (1 - offset / top))

    body.append(f'<rect x="{_LEFT}" y="{y:.1f}" width="{_PLOT}" height="{_MAP_HEIGHT}" fill="#fafafa" stroke="#888888"/>')
    for tick in _ticks(top):
        body.append(f'<line x1="{_LEFT - 4}" x2="{_LEFT + _PLOT}" y1="{at(tick):.1f}" y2="{at(tick):.1f}" stroke="#e3e3e3"/>')
        body.append(_text(_LEFT - 8, at(tick) + 4, size_text(tick), size=11, anchor="end"))
    middle = y + _MAP_HEIGHT / 2
    body.append(_text(20, middle, "offset in fast memory", size=12, anchor="middle", turn=True))

    steps = sorted((e for e in events if e.lane == "compute"), key=lambda e: e.begin)
    for index, a in enumerate(report["allocations"]):
        if a["bytes"] > 0:
            _allocation(body, report, index, a, _times(a, steps, end), end, at)
    right = _LEFT + _PLOT - 6.0
    for name, value, colour in (("budget", report["budget"], "#111111"), ("peak", report["peak_bytes"], "#c03030")):
        if value > top:
            continue
        body.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{at(value):.1f}" y2="{at(value):.1f}" stroke="{colour}" stroke-dasharray="6 4"/>'
        )
        below = at(value) - y < 16  # inside the plot: above the line where there is room
        label = f"{name} {size_text(value)}"
        body.append(_text(right, at(value) + (13 if below else -4), label, size=12, anchor="end", fill=colour))
        right -= 7.5 * len(label)  # the two lines may be close to each other


def _times(allocation: dict[str, Any], steps: Sequence[_Event], end: float) -> list[tuple[float, float]]:
    """When an allocation is live: of a window, while blocks alternate between the ops of a group, several stretches."""
    out: list[tuple[float, float]] = []
    live = False
    for i, step in enumerate(steps):
        inside = allocation["first_op"] <= step.event["op"] <= allocation["last_op"]
        until = steps[i + 1].begin if i + 1 < len(steps) else end
        if inside and live:
            out[-1] = (out[-1][0], until)
        elif inside:
            out.append((0.0 if i == 0 else step.begin, until))
        live = inside
    if out and allocation["kind"] in ("resident", "ring"):  # keep their content from the first to the last of these
        return [(out[0][0], out[-1][1])]
    return out


def _allocation(
    body: list[str], report: dict[str, Any], index: int, a: dict[str, Any], times: Sequence[tuple[float, float]], end: float, at: Any
) -> None:
    colour = _MEMORY_COLOURS[a["kind"]]
    tip = f"{a['name']} ({a['kind']}): {size_text(a['bytes'])} at {size_text(a['offset'])}, ops {a['first_op']} to {a['last_op']}"
    y0, y1 = at(a["offset"] + a["bytes"]), at(a["offset"])
    body.append(f'<g data-allocation="{index}"><title>{escape(tip)}</title>')
    for begin, until in times:
        x0, x1 = _x(begin, end), _x(until, end)
        body.append(
            f'<rect x="{x0:.2f}" y="{y0:.2f}" width="{max(x1 - x0, 0.3):.2f}" height="{max(y1 - y0, 0.3):.2f}" fill="{colour}" '
            'fill-opacity="0.8" stroke="#ffffff" stroke-width="0.6"/>'
        )
    if times and a["kind"] == "ring" and report["ring_slot_bytes"]:
        middle = at(a["offset"] + report["ring_slot_bytes"])
        x0, x1 = _x(times[0][0], end), _x(times[-1][1], end)
        body.append(f'<line x1="{x0:.2f}" x2="{x1:.2f}" y1="{middle:.2f}" y2="{middle:.2f}" stroke="#ffffff" stroke-dasharray="3 3"/>')
    body.append("</g>")
    if times:
        begin, until = max(times, key=lambda t: t[1] - t[0])
        width, label = _x(until, end) - _x(begin, end), f"{a['name']} {size_text(a['bytes'])}"
        for text in (label, a["name"]):
            if 6.0 * len(text) + 8 <= width and y1 - y0 >= 12:
                body.append(_text(_x(begin, end) + 4, (y0 + y1) / 2 + 4, text, size=11, fill="#111111"))
                break


def _gantt(body: list[str], events: Sequence[_Event], end: float, y: float) -> float:
    lanes = [lane for lane in _LANES if lane == "compute" or any(e.lane == lane for e in events)]
    for lane in lanes:
        body.append(f'<rect x="{_LEFT}" y="{y:.1f}" width="{_PLOT}" height="{_LANE_HEIGHT}" fill="#fafafa" stroke="#bbbbbb"/>')
        body.append(_text(_LEFT - 8, y + _LANE_HEIGHT / 2 + 4, lane, size=12, anchor="end"))
        for run in _merged([e for e in events if e.lane == lane]):
            event = run.event
            colour = _OP_COLOURS.get(event["kind"] if lane == "compute" else lane, _OP_COLOURS["other"])
            tip = f"{event['kind']} {event['name']}: {(run.end - run.begin) / 1e3:.3f} ms, block {event['block']}"
            if lane != "compute":
                tip = f"{lane} for {tip}, {size_text(event['bytes'])}"
            x0, x1 = _x(run.begin, end), _x(run.end, end)
            body.append(
                f'<rect x="{x0:.2f}" y="{y + 2:.1f}" width="{max(x1 - x0, 0.2):.2f}" height="{_LANE_HEIGHT - 4}" fill="{colour}">'
                f"<title>{escape(tip)}</title></rect>"
            )
            if lane == "compute" and 6.0 * len(event["name"]) + 6 <= x1 - x0:
                body.append(_text(x0 + 3, y + _LANE_HEIGHT / 2 + 4, event["name"], size=11, fill="#ffffff"))
        y += _LANE_HEIGHT + 4
    return y


def _merged(events: Sequence[_Event]) -> list[_Event]:
    """Steps of one op in one block as one bar, when nothing lies between them."""
    out: list[_Event] = []
    for e in sorted(events, key=lambda e: e.begin):
        last = out[-1] if out else None
        same = last is not None and all(last.event[key] == e.event[key] for key in ("op", "block", "track", "store"))
        if last is not None and same and e.begin - last.end < 1e-3:
            merged = {**last.event, "bytes": last.event["bytes"] + e.event["bytes"]}
            out[-1] = _Event(e.lane, last.begin, e.end, merged)
        else:
            out.append(e)
    return out


def _time_axis(body: list[str], end: float, y: float) -> float:
    for tick in _ticks(end / 1e3, binary=False):
        x = _x(tick * 1e3, end)
        body.append(f'<line x1="{x:.2f}" x2="{x:.2f}" y1="{y:.1f}" y2="{y + 5:.1f}" stroke="#888888"/>')
        body.append(_text(x, y + 18, f"{tick:g}", size=11, anchor="middle"))
    body.append(_text(_LEFT + _PLOT / 2, y + 36, "time, ms (each section once)", size=12, anchor="middle"))
    return y + 44


def _x(microseconds: float, end: float) -> float:
    return _LEFT + _PLOT * microseconds / end


def _ticks(top: float, binary: bool = True) -> list[float]:
    """About 4 to 9 round values from 0 to `top`; round in bytes when `binary`."""
    step = 1.0
    if binary:
        while top / step > 9:
            step *= 2
    else:
        while top / step < 4:
            step /= 10
        for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000):
            if top / (step * factor) <= 9:
                step *= factor
                break
    return [round(i * step, 9) for i in range(int(top / step) + 1)]


def size_text(count: float) -> str:
    """Bytes in binary units."""
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}" if count < 1000 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"


def _text(
    x: float, y: float, text: str, *, size: int, weight: str = "normal", anchor: str = "start", fill: str = _TEXT,
    turn: bool = False,
) -> str:  # fmt: skip
    extra = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    bold = "" if weight == "normal" else f' font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{bold} text-anchor="{anchor}" fill="{fill}"{extra}>{escape(text)}</text>'

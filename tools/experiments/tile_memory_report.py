"""Table and plot of tile_memory_profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.experiments.fit import Curve, crossing, exponent
from tools.experiments.machine import MIB
from tools.experiments.results import Record, ResultsFile
from tools.experiments.tile_memory_profile import (
    BRANCHES,
    OTHER_TILES,
    TILE,
    TILED_IMAGES,
    UNTILED_IMAGES,
    Case,
    all_cases,
)

LATENCY_GOAL, MEMORY_GOAL = 12.9, 6.8
_RATIO_IMAGES = (1024, 1536, 2048)
_LARGEST = 8192  # where the search for crossings ends


@dataclass(frozen=True)
class Untiled:
    """A way to encode a whole image at once, and the tiled precision it is compared with."""

    name: str
    case: Case  # its branch and image are replaced
    pair: str

    def at(self, branch: str, image: int) -> Case:
        return replace(self.case, branch=branch, image=image)


UNTILED = (
    Untiled("OpenVINO bf16", Case("openvino", "bf16", "", 0), "a16"),
    Untiled("transformers bf16 sdpa", Case("torch", "bf16", "", 0, attention="sdpa"), "a16"),
    Untiled("transformers bf16 eager", Case("torch", "bf16", "", 0, attention="eager"), "a16"),
    Untiled("hypervl A16 untiled", Case("hypervl", "a16", "", 0), "a16"),
    Untiled("OpenVINO W8A8", Case("openvino", "w8a8", "", 0), "a8"),
    Untiled("hypervl A8 untiled", Case("hypervl", "a8", "", 0), "a8"),
)
# What of a result is compared: its name, how it grows with the pixels, the ratio aimed at, and a unit for tables.
QUANTITIES = {
    "latency_ms": ("latency", (1, 2), LATENCY_GOAL, 1e-3),
    "activation_bytes": ("activations", (0, 1, 2), MEMORY_GOAL, 1 / MIB),
    "peak_rss_bytes": ("whole process", (0, 1, 2), MEMORY_GOAL, 1 / MIB),
}


class Measured:
    """The results by case; whatever did not work counts as not there."""

    def __init__(self, results: ResultsFile) -> None:
        self.results = results

    def get(self, case: Case) -> Record | None:
        result = self.results.get(case.record)
        return result if result is not None and result["status"] == "ok" else None

    def status(self, case: Case) -> str:
        """Why there is no result: "skipped", "timeout", "memory", "failed" or "not measured"."""
        return (self.results.get(case.record) or {"status": "not measured"})["status"]

    def curve(self, cases: Sequence[Case], quantity: str) -> Curve | None:
        """Of time, without noisy measurements where three others are left. None for fewer than two."""
        results = {case.image: result for case in cases if (result := self.get(case)) is not None}
        if quantity == "latency_ms":
            results = without_noisy(results)
        points = {image: float(result[quantity]) for image, result in results.items()}
        return Curve(points, QUANTITIES[quantity][1]) if len(points) > 1 else None

    def tiled(self, precision: str, branch: str, quantity: str) -> Curve | None:
        return self.curve([Case("hypervl", precision, branch, i, TILE) for i in TILED_IMAGES], quantity)

    def untiled(self, how: Untiled, branch: str, quantity: str) -> Curve | None:
        return self.curve([how.at(branch, i) for i in UNTILED_IMAGES], quantity)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float) -> str:
    """Three significant digits, more for large numbers."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tiled_table(measured: Measured) -> str:
    """Latency and memory of this engine with the default tile."""
    rows = []
    for case in all_cases(False):
        result = measured.get(case)
        if case.engine != "hypervl" or case.tile != TILE or result is None:
            continue
        known = result["image_bytes"] + result["output_bytes"]
        amounts = (result["activation_bytes"], known, result["growth_bytes"] - known, result["peak_rss_bytes"])
        rows.append([
            case.branch + (", full model" if case.model == "full" else ""), case.precision.upper(), f"{case.image}²", str(result["tiles"]),
            number(result["latency_ms"] / 1e3) + noise(result), number(result["latency_ms"] / result["tiles"]),
            *(number(amount / MIB) for amount in amounts),
        ])  # fmt: skip
    rows.sort(key=lambda row: (row[0], row[1]))  # stable: images stay in order
    header = ["branch", "precision", "image", "tiles", "encode s", "ms a tile", "activations MiB", "image and output MiB"]
    return table([*header, "other RSS growth MiB", "RSS MiB"], rows)


def without_noisy(results: dict[int, Record]) -> dict[int, Record]:
    """Those that are not noisy, where these are three or more; else all."""
    quiet = {image: result for image, result in results.items() if not result["noisy"]}
    return quiet if len(quiet) > 2 else results


def noise(result: Record) -> str:
    """How much of the processors others took meanwhile, where that was not little."""
    return f" (noisy: {min(result['others']):.0%})" if result["noisy"] else ""


def claims(measured: Measured) -> str:
    """Flatness and linearity, by branch and precision, each beside what is asked of it."""
    rows = []
    for precision in ("a16", "a8"):
        for branch in BRANCHES:
            results = {i: r for i in TILED_IMAGES if (r := measured.get(Case("hypervl", precision, branch, i, TILE)))}
            activations = [r["activation_bytes"] for i, r in results.items() if i >= TILE]
            if len(activations) < 2:
                continue
            spread, timed = max(activations) / min(activations) - 1, without_noisy(results)
            slope = exponent([i * i for i in timed], [r["latency_ms"] for r in timed.values()])
            shown = [f"{min(images)}² to {max(images)}² ({len(images)})" for images in (results, timed)]
            rows.append([branch, precision.upper(), shown[0], f"{spread:.2%}", shown[1], f"{slope:.3f}"])
    header = ["branch", "precision", "images", "spread of peak activation memory (asked: ≤ 2 %)", "images timed"]
    header.append("exponent of latency in pixels (≤ 1.05)")
    return table(header, rows)


def untiled_table(measured: Measured, quantity: str) -> str:
    """A row an image, a column a way to encode it whole; beyond the last measurement extrapolated."""
    unit = QUANTITIES[quantity][3]
    rows = []
    for branch in BRANCHES:
        for image in (*UNTILED_IMAGES, *(i for i in TILED_IMAGES if i > UNTILED_IMAGES[-1])):
            cells = [branch, f"{image}²"]
            for how in UNTILED:
                result, curve = measured.get(how.at(branch, image)), measured.untiled(how, branch, quantity)
                if result is not None:
                    cells.append(number(result[quantity] * unit) + (noise(result) if quantity == "latency_ms" else ""))
                elif curve is not None and curve.extrapolated(image):
                    reason = measured.status(how.at(branch, image))
                    why = "extrapolated" if reason == "not measured" else f"extrapolated; {reason}"
                    cells.append(f"*{number(curve.at(image) * unit)}* ({why})")
                else:
                    cells.append(measured.status(how.at(branch, image)))
            rows.append(cells)
    return table(["branch", "image", *(how.name for how in UNTILED)], rows)


def ratio_table(measured: Measured, quantity: str) -> str:
    """How many times an untiled pass takes what the tiled one takes, and from which image on that passes the goal."""
    goal = QUANTITIES[quantity][2]
    rows = []
    for how in UNTILED:
        for branch in BRANCHES:
            ours, theirs = measured.tiled(how.pair, branch, quantity), measured.untiled(how, branch, quantity)
            if ours is None or theirs is None:
                continue
            cells = [f"{how.name} / hypervl {how.pair.upper()} tiled", branch]
            for image in _RATIO_IMAGES:
                beyond = theirs.extrapolated(image) or ours.extrapolated(image)
                ratio = number(theirs.at(image) / ours.at(image))
                cells.append(f"*{ratio}* (extrapolated)" if beyond else ratio)
            size = crossing(ours, theirs, goal, most=_LARGEST)
            beyond = size is not None and (theirs.extrapolated(size) or ours.extrapolated(size))
            cells.append(f"not up to {_LARGEST}²" if size is None else f"*{size}²* (extrapolated)" if beyond else f"{size}²")
            rows.append(cells)
    return table(["pair", "branch", *(f"{i}²" for i in _RATIO_IMAGES), f"from which image on ≥ {goal}"], rows)


def tile_sides_table(measured: Measured) -> str:
    """Latency, and activations, by tile side."""
    sides = sorted({TILE, *OTHER_TILES})
    images = sorted({case.image for case in all_cases(True) if case.tile in OTHER_TILES})
    rows = []
    for precision in ("a16", "a8"):
        for branch in BRANCHES:
            for image in images:
                results = [measured.get(Case("hypervl", precision, branch, image, side)) for side in sides]
                if sum(r is not None for r in results) > 1:
                    cells = [time_and_memory(r) if r else "not measured" for r in results]
                    rows.append([branch, precision.upper(), f"{image}²", *cells])
    return table(["branch", "precision", "image", *(f"tile {side}" for side in sides)], rows)


def time_and_memory(result: Record) -> str:
    return f"{number(result['latency_ms'] / 1e3)}, {number(result['activation_bytes'] / MIB)}"


def conditions(measured: Measured) -> str:
    """When, where and with what."""
    results = [r for case in all_cases(True) if (r := measured.get(case))]
    if not results:
        return "Nothing is measured yet."
    versions: dict[str, str] = {}
    for result in results:
        versions.update(result.get("versions", {}))
    noisy = sum(r["noisy"] for r in results)
    days = sorted(r["when"] for r in results)
    ours = [r for case in all_cases(True) if case.engine == "hypervl" and (r := measured.get(case))]
    return (
        f"{len(results)} measurements between {days[0]} and {days[-1]} on {processor()}; 2 threads. hypervl at {commits(ours)}; "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + f". {noisy} of them are noisy."
    )


def commits(results: Sequence[Record]) -> str:
    """The commits that were measured, in their order (+: files differed from the commit)."""
    names = list(dict.fromkeys(r["commit"] for r in sorted(results, key=lambda r: r["when"])))
    return "-" if not names else f"commit {names[0]}" if len(names) == 1 else f"commits {names[0]} to {names[-1]}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    return f"{len(models)} processors of {models[0]}" if models else "an unnamed processor"


def write_report(results: ResultsFile, folder: Path) -> None:
    """Writes tile_memory_profile.md and .svg into `folder`."""
    measured = Measured(results)
    sections: list[tuple[str, Callable[[], str]]] = [
        ("Flat memory, linear latency", lambda: claims(measured)),
        ("Tiles of 256, one after another", lambda: tiled_table(measured)),
        ("Latency ratios", lambda: ratio_table(measured, "latency_ms")),
        ("Activation memory ratios", lambda: ratio_table(measured, "activation_bytes")),
        ("Whole-process memory ratios", lambda: ratio_table(measured, "peak_rss_bytes")),
        ("Untiled: seconds", lambda: untiled_table(measured, "latency_ms")),
        ("Untiled: activations, MiB", lambda: untiled_table(measured, "activation_bytes")),
        ("Untiled: whole process, MiB", lambda: untiled_table(measured, "peak_rss_bytes")),
        ("Tile sides: encode seconds, activations MiB", lambda: tile_sides_table(measured)),
    ]
    text = ["# Memory and latency against image size\n", conditions(measured) + "\n", _EXPLANATION, "![plot](tile_memory_profile.svg)\n"]
    text += [f"## {title}\n\n{write()}\n" for title, write in sections]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tile_memory_profile.md").write_text("\n".join(text))
    plot(measured, folder / "tile_memory_profile.svg")


_EXPLANATION = """\
Written by `python -m tools.experiments.tile_memory_profile`. Random weights of the published shapes; square images of random pixels.

- **Compared**: the vision tower from pixels (patches, for OpenVINO) to its last layer norm; for hypervl that is `encode_ms` of the
  session's stats, projector and resizing not included. hypervl computes W8A16 ("A16") or W8A8 ("A8"); A16 stands beside bf16, A8 beside
  W8A8.
- **Activations**: for hypervl the session's planned memory (the highest point of fast memory with the default budget, the arena in DDR, the
  session's blocks); an image smaller than a tile takes less and is left out of the spread. For others how far resident memory grows during
  the first pass of the loaded model (transformers: after a small image). hypervl's growth is given too, less the image and the embeddings
  returned, which grow with the image by themselves and are counted beside; pages that are never touched are not in it.
- **Whole process**: peak resident memory during that pass, loading left aside: weights, libraries and Python included. hypervl's weights
  are a mapped file with one branch, its projector, and a language model of one layer ("full model": all of the 1.8B model); OpenVINO maps
  its own.
- **Noisy**: other processes took more than 6 % of the processors during every sample; the least of the samples is given, with the share
  they took. Ratios, exponents and extrapolations of time use the other measurements, where there are three or more. Cases are measured one
  after another, and the machine's own speed drifts by 15 % and more between minutes.
- *Extrapolated* figures come from c1·n + c2·n² (memory: c0 beside) fitted to the measurements, n pixels.
- "skipped": eager attention's score matrices would not fit in memory. "memory": stopped before the machine ran out of it. "timeout":
  stopped at the time limit.
"""


def plot(measured: Measured, path: Path) -> None:
    """Latency and activations against the image's side, a column a branch; dashed where extrapolated."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tile_memory_profile"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, len(BRANCHES), figsize=(12, 13), sharex=True, squeeze=False)
    for column, branch in enumerate(BRANCHES):
        for row, (quantity, (name, _, _, unit)) in enumerate(QUANTITIES.items()):
            axis = axes[row][column]
            lines = [(f"hypervl {p.upper()}, tiles of {TILE}", measured.tiled(p, branch, quantity), 2.5) for p in ("a16", "a8")]
            lines += [(how.name, measured.untiled(how, branch, quantity), 1.0) for how in UNTILED]
            for label, curve, width in lines:
                if curve is None:
                    continue
                values = [curve.points[s] * unit for s in curve.sides]
                drawn = axis.plot(curve.sides, values, "o-", markersize=3, linewidth=width, label=label)
                beyond = [curve.sides[-1], *(s for s in TILED_IMAGES if s > curve.sides[-1])]
                axis.plot(beyond, [curve.at(s) * unit for s in beyond], "--", linewidth=width, color=drawn[0].get_color())
            axis.set(xscale="log", yscale="log", title=f"{branch}: {name}, {'s' if row == 0 else 'MiB'}")
            axis.set_xticks(TILED_IMAGES, [f"{i}²" for i in TILED_IMAGES])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    if axes[0][0].lines:
        axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)

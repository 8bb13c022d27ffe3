"""Peak memory and latency of encoding images, tiled and untiled, against their size: this engine, transformers and OpenVINO.

python -m tools.experiments.tile_memory_profile            measures what is not there yet, then writes docs/tile_memory_profile.md and .svg
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.experiments.child import run_child
from tools.experiments.machine import MIB, wait_until_quiet
from tools.experiments.results import Record, ResultsFile

REPOSITORY = Path(__file__).resolve().parents[2]
BRANCHES = ("base", "large")
TILE = 256  # the checkpoint's own
TILED_IMAGES = (224, 512, 768, 1024, 1536, 2048, 3072, 4096)
UNTILED_IMAGES = (224, 256, 512, 1024, 1536, 2048)
OTHER_TILES = (128, 192, 384, 512)
OTHER_TILE_IMAGES = (512, 1024)
_MODULES = {"hypervl": "encode_hypervl", "torch": "encode_torch", "openvino": "encode_openvino"}


@dataclass(frozen=True)
class Case:
    """What is measured. tile: side in pixels; None: the whole image at once. attention: of transformers only.

    model: of this engine only: "tower", one vision branch with its projector, as others are measured; "full", the 1.8B model around it.
    """

    engine: str
    precision: str
    branch: str
    image: int
    tile: int | None = None
    attention: str | None = None
    model: str = "tower"

    @property
    def record(self) -> Record:
        return asdict(self)

    @property
    def label(self) -> str:
        how = f"tile {self.tile}" if self.tile else "untiled"
        full = "full model" if self.model == "full" else None
        return " ".join(filter(None, (self.engine, self.attention, self.precision, self.branch, f"{self.image}px", how, full)))


def all_cases(every: bool) -> list[Case]:
    """In the order they are measured: what matters most first, small images first. every: other tile sides at all images too."""

    def ours(images: Sequence[int], tiles: Sequence[int | None]) -> list[Case]:
        return [Case("hypervl", p, b, i, t) for i in images for t in tiles for p in ("a16", "a8") for b in BRANCHES]

    def others(images: Sequence[int]) -> list[Case]:
        kinds = (("openvino", "bf16", None), ("openvino", "w8a8", None), ("torch", "bf16", "sdpa"))
        return [Case(engine, p, b, i, attention=a) for i in images for b in BRANCHES for engine, p, a in kinds]

    *smaller, largest = UNTILED_IMAGES
    cases = ours([i for i in TILED_IMAGES if i <= largest], [TILE]) + others(smaller) + ours(smaller, [None]) + others([largest])
    cases += ours([i for i in TILED_IMAGES if i > largest], [TILE]) + ours([largest], [None])
    cases += ours(TILED_IMAGES if every else OTHER_TILE_IMAGES, OTHER_TILES)
    cases += [Case("hypervl", "a8", "large", i, TILE, model="full") for i in (512, largest)]
    return cases + [Case("torch", "bf16", b, i, attention="eager") for i in UNTILED_IMAGES for b in BRANCHES]


def missing_packages(case: Case) -> list[str]:
    """Packages a case needs that are not installed."""
    needed = {"hypervl": ["hypervl_engine"], "torch": ["torch", "transformers"], "openvino": ["openvino", "nncf", "torch", "transformers"]}
    return [name for name in needed[case.engine] if importlib.util.find_spec(name) is None]


def wanted(case: Case, result: Record | None, redo: str | None) -> bool:
    """Whether a case is (again) to be measured."""
    if result is None or redo == "all":
        return True
    if redo == "failed":
        return result["status"] in ("failed", "timeout", "memory")
    return redo == "noisy" and bool(result.get("noisy"))


def less_noisy(result: Record, known: Record) -> bool:
    """Whether a repeated measurement is the better one."""
    return result["status"] == "ok" and (known["status"] != "ok" or min(result["others"]) < min(known["others"]))


def commit() -> str:
    """The checkout's commit, with + where files differ from it; "unknown" without git."""
    described = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=REPOSITORY, capture_output=True, text=True)
    return described.stdout.strip() or "unknown"


def measure(case: Case, options: argparse.Namespace) -> Record:
    """Waits for a quiet machine and runs the case in a process of its own."""
    arguments: dict[str, Any] = {**case.record, "cache": str(options.folder)}
    module = f"tools.experiments.{_MODULES[case.engine]}"
    if case.engine == "hypervl":
        from tools.experiments.checkpoints import full_checkpoint, tower_checkpoint

        full = case.model == "full"
        arguments["checkpoint"] = str(
            tower_checkpoint(options.folder, case.branch) if not full else options.checkpoint or full_checkpoint(options.folder)
        )
    if case.engine == "openvino":
        prepared = run_child(module, {**arguments, "prepare": True}, time_limit_s=1800)
        if prepared["status"] != "ok":
            return prepared
    quiet = wait_until_quiet(options.quiet_wait)
    when = {"when": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "commit": commit()}
    return {**run_child(module, arguments, time_limit_s=options.time_limit), **quiet, **when}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="the full model's folder (default: one with random weights is made)")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "experiments", help="for results and models")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs", help="where the report goes")
    parser.add_argument("--report", action="store_true", help="only write the report from the results that are there")
    parser.add_argument("--fresh", action="store_true", help="forget all results first")
    parser.add_argument("--redo", choices=("failed", "noisy", "all"), help="measure these again")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases whose label (see --list) it is found in")
    parser.add_argument("--every", action="store_true", help="other tile sides at all image sizes too (an hour more)")
    parser.add_argument("--list", action="store_true", help="print the cases and what is there of them")
    parser.add_argument("--time-limit", type=float, default=900, metavar="SECONDS", help="of one measurement")
    parser.add_argument("--quiet-wait", type=float, default=60, metavar="SECONDS", help="the longest wait for a quiet machine, each time")
    options = parser.parse_args()

    results = ResultsFile(options.folder / "tile_memory_profile.jsonl", fresh=options.fresh)
    cases = [case for case in all_cases(options.every) if re.search(options.only, case.label)]
    if options.list:
        for case in cases:
            print(f"{case.label:45s} {(results.get(case.record) or {'status': '-'})['status']}")
        return
    if not options.report:
        os.chdir(REPOSITORY)  # children find this package from here
        for case in cases:
            known = results.get(case.record)
            if not wanted(case, known, options.redo):
                continue
            if missing := missing_packages(case):
                print(f"{case.label}: not installed: {', '.join(missing)}", file=sys.stderr)
                continue
            result = measure(case, options)
            if options.redo != "noisy" or known is None or less_noisy(result, known):
                results.add(case.record, result)
            print(f"{case.label}: {summary(result)}", file=sys.stderr, flush=True)
    from tools.experiments.tile_memory_report import write_report

    write_report(results, options.docs)


def summary(result: Record) -> str:
    """One line."""
    if result["status"] != "ok":
        return f"{result['status']}: {result.get('reason', '')}"
    activations, peak = result["activation_bytes"] / MIB, result["peak_rss_bytes"] / MIB
    return f"{result['latency_ms']:.0f} ms{' (noisy)' * result['noisy']}, activations {activations:.1f} MiB, peak {peak:.0f} MiB"


if __name__ == "__main__":
    main()

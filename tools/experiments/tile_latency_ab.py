"""Encode time of one tile with two builds of the engine, side by side: which is faster, and by how much.

python -m tools.experiments.tile_latency_ab BEFORE AFTER [--checkpoint FOLDER]

BEFORE, AFTER: folders to put on PYTHONPATH, each holding a hypervl_engine package with its compiled module. The builds run in turn, each
time in a new process and in alternating order, so that what the machine does in the meantime happens to both. The ratio after / before is
the median over the rounds of the ratio within a round; exit code 1 when it is above --limit for any branch and precision.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from tools.experiments.child import THREADS, run_child, serve
from tools.experiments.machine import NOISY, OthersWatch, wait_until_quiet
from tools.experiments.tile_memory_profile import REPOSITORY
from tools.experiments.tile_memory_report import table


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: checkpoint, runs. Milliseconds of the tower by "branch precision", the least of `runs`, and how busy others were meanwhile."""
    import hypervl_engine
    import numpy as np

    least: dict[str, float] = {}
    watch = OthersWatch()
    for bits in (16, 8):
        engine = hypervl_engine.load(Path(case["checkpoint"]), threads=THREADS, activation_bits=bits, progress=False)
        session = engine.new_session()
        side = engine.config.tiling.tile_size
        rgb = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        for branch in engine.branches:
            session.encode(rgb, 1.0, branch)
            times = []
            for _ in range(int(case["runs"])):
                session.reset_stats()
                session.encode(rgb, 1.0, branch)
                times.append(float(session.stats()["encode_ms"]))
            least[f"{branch} A{bits}"] = min(times)
    return {"ms": least, "others": watch.share()}


def ratios(rounds: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, float]:
    """Median over the rounds of after / before, by what was measured."""
    return {name: statistics.median(after[name] / before[name] for before, after in rounds) for name in rounds[0][0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="folder of a model (default: one of the 1.8B shape with random weights is made)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5, help="tiles a process encodes with each setting")
    parser.add_argument("--limit", type=float, default=1.02, help="the largest ratio after / before that counts as no slower")
    parser.add_argument("--quiet-wait", type=float, default=60, metavar="SECONDS", help="the longest wait for a quiet machine, each time")
    options = parser.parse_args()
    builds = {"before": options.before.resolve(), "after": options.after.resolve()}
    if options.checkpoint is None:
        from tools.experiments.checkpoints import full_checkpoint

        options.checkpoint = full_checkpoint(REPOSITORY / "build" / "experiments")
    os.chdir(REPOSITORY)
    case = {"checkpoint": str(options.checkpoint), "runs": options.runs}

    rounds = []
    for number in range(options.rounds):
        times: dict[str, dict[str, float]] = {}
        for name in ("before", "after") if number % 2 == 0 else ("after", "before"):
            wait_until_quiet(options.quiet_wait)
            path = {"PYTHONPATH": f"{builds[name]}{os.pathsep}{REPOSITORY}"}
            result = run_child("tools.experiments.tile_latency_ab", case, time_limit_s=600, extra_env=path)
            if result["status"] != "ok":
                sys.exit(f"{name}: {result['status']}: {result['reason']}")
            times[name] = result["ms"]
            busy = " (noisy)" * (result["others"] > NOISY)
            print(f"round {number + 1}, {name}{busy}: {', '.join(f'{k} {v:.1f} ms' for k, v in result['ms'].items())}", file=sys.stderr)
        rounds.append((times["before"], times["after"]))
    ratio = ratios(rounds)
    rows = []
    for name, value in ratio.items():
        medians = [statistics.median(times[name] for times in build) for build in zip(*rounds, strict=True)]
        rows.append([name, *(f"{ms:.1f}" for ms in medians), f"{value:.3f}"])
    print(table(["tile", "before ms", "after ms", "after / before"], rows))
    sys.exit(max(ratio.values()) > options.limit)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):  # as a child of itself
        serve(measure)
    else:
        main()

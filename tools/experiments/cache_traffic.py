"""Planned reads of DDR against those of a simulated cache: `python -m tools.experiments.cache_traffic`.

On `device="cpu-staged"` kernels touch nothing but fast memory, so all that a run reads from DDR should be the loads of its plan. A
processor's cache of more than the budget keeps fast memory, and misses on what is loaded. valgrind's cachegrind counts those misses: two
processes encode a tile once and twice with a vision tower of the large branch's width; the difference in read misses of the last level
(twice the budget, lines of 64 bytes) is one run's. One thread, AVX2 (cachegrind knows no AVX-512), 3 minutes a budget. Writes a table
into docs/cost_model.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypervl_engine import _core
from hypervl_engine.config import Config
from hypervl_engine.convert import convert_random
from hypervl_engine.convert.random_model import preset_config
from hypervl_engine.engine import load
from hypervl_engine.hardware import default_cpu_spec

from tools.experiments.sections import COST_MODEL, replace_section

MIB = 1 << 20
LINE = 64
TOLERANCE = 0.20
BRANCH = "large"
CHECKPOINTS = Path("build/experiments")


def block_checkpoint(layers: int) -> Path:
    """Random weights: the large branch's tower of the published shape with `layers` layers; everything else tiny, so that it loads fast."""
    path = CHECKPOINTS / f"large-tower-{layers}-layers"

    def adjust(config: Config) -> Config:
        published = preset_config("hypervl-1.8b", layers)
        projector = config.projector_configs[BRANCH]
        return dataclasses.replace(
            config,
            vision_configs={BRANCH: published.vision_configs[BRANCH]},
            projector_configs={BRANCH: projector},
            tiling=published.tiling,
            vrc_config=None,
        )

    if not (path / "config.json").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        convert_random("tiny", path, adjust=adjust, progress=False)
    return path


def encode(checkpoint: str, budget: int, runs: int) -> dict[str, int]:
    """Encodes a tile `runs` times. Bytes of one run: loads and stores the plan announces, those the executor counted, fast memory used."""
    # Not this machine's calibration: the plan should be the same everywhere.
    engine = load(checkpoint, threads=1, device="cpu-staged", vtcm=budget, context_length=64, spec=default_cpu_spec(1), progress=False)
    side = engine.config.tiling.tile_size
    session = engine.new_session()
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for _ in range(runs):
        session.encode_tower(image, 1.0, BRANCH)
    stats = session.stats()
    program, plan = next(
        (p, plan) for stage, p, plan in _core.model_programs(engine.model, BRANCH, [(side, side)], 64) if stage.startswith("tile")
    )
    report = _core.describe_plan(program, plan, engine.spec.values())
    return {
        "planned_in": report["bytes_in"],
        "planned_out": report["bytes_out"],
        "counted_in": stats["transferred_in_bytes"] // runs,
        "peak": report["peak_bytes"],
    }


def under_cachegrind(valgrind: str, checkpoint: Path, budget: int, runs: int) -> tuple[dict[str, int], dict[str, int]]:
    """`encode` in a process whose cache is simulated: what it returns, and cachegrind's counts by event. RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cachegrind.out"
        command = [
            valgrind, "--tool=cachegrind", "--cache-sim=yes", "--D1=32768,8,64", f"--LL={2 * budget},16,{LINE}",
            f"--cachegrind-out-file={out}",
            sys.executable, "-m", __spec__.name, "--encode", str(checkpoint), str(budget), str(runs),
        ]  # fmt: skip
        environment = {**os.environ, "HVL_FORCE_ISA": "avx2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0 or not out.exists():
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-800:]}")
        lines = out.read_text().splitlines()
    events = next(line for line in lines if line.startswith("events:")).split()[1:]
    counts = next(line for line in lines if line.startswith("summary:")).split()[1:]
    return json.loads(done.stdout.splitlines()[-1]), dict(zip(events, map(int, counts), strict=True))


def measure(valgrind: str, budget: int, layers: int) -> dict[str, Any]:
    """Planned and simulated reads of DDR of one run, in bytes."""
    checkpoint = block_checkpoint(layers)
    once, first = under_cachegrind(valgrind, checkpoint, budget, 1)
    twice, second = under_cachegrind(valgrind, checkpoint, budget, 2)
    if once != twice:
        raise RuntimeError(f"plans of the two runs differ: {once}, {twice}")
    return {**once, "budget": budget, "simulated_in": (second["DLmr"] - first["DLmr"]) * LINE}


def table(rows: list[dict[str, Any]], layers: int, version: str) -> str:
    """Markdown."""
    lines = [
        f"{layers} encoder layer{'s' if layers > 1 else ''} of width 1024 / 4096, 256 patches, with patch embedding and last norm; W8A16; "
        f"{version}.",
        "",
        "| budget, MiB | simulated cache, MiB | planned reads, MB | counted by the executor, MB | simulated, MB | planned / simulated |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        mb = [f"{r[name] / 1e6:.2f}" for name in ("planned_in", "counted_in", "simulated_in")]
        lines.append(
            f"| {r['budget'] / MIB:g} | {2 * r['budget'] / MIB:g} | {' | '.join(mb)} | {r['planned_in'] / r['simulated_in']:.3f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 2, 4, 8], help="of fast memory, MiB; powers of two")
    parser.add_argument("--layers", type=int, default=2, help="enough that their weights do not fit the simulated cache")
    parser.add_argument("--encode", nargs=3, metavar=("CHECKPOINT", "BUDGET", "RUNS"), help="what runs under valgrind")
    options = parser.parse_args()
    if options.encode:
        print(json.dumps(encode(options.encode[0], int(options.encode[1]), int(options.encode[2]))))
        return 0
    if any(budget < 1 or budget & (budget - 1) for budget in options.budgets):
        parser.error("budgets must be powers of two, as the simulated cache is")
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("cache_traffic needs valgrind, which is not installed: apt-get install valgrind", file=sys.stderr)
        return 2
    version = subprocess.run([valgrind, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    rows = []
    for budget in options.budgets:
        rows.append(measure(valgrind, budget * MIB, options.layers))
        print(rows[-1], flush=True)
    replace_section(COST_MODEL, "cache", table(rows, options.layers, version))
    misses = [r for r in rows if abs(r["planned_in"] / r["simulated_in"] - 1) > TOLERANCE]
    print(f"{len(rows) - len(misses)} of {len(rows)} budgets within {TOLERANCE:.0%}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())

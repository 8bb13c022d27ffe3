"""Predicted against measured time, op by op: `python -m tools.experiments.cost_model [CHECKPOINT ...]`.

Every Program (vision tower, projector, VRC, prefill, decode, head) runs as the engine runs it, with each kernel step timed; an op's
time is the sum over its layers and blocks. Beside it stands what the cost model says for the same plan with this machine's calibrated
figures. None of the shapes is one that `hypervl-engine calibrate` times. Keeps the records in build/experiments/cost_model.json and
writes their distribution into docs/cost_model.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypervl_engine import _core
from hypervl_engine.engine import Engine, load
from hypervl_engine.hardware import HardwareSpec, cpu_spec
from hypervl_engine.hardware.calibrate import calibrated_spec
from hypervl_engine.hardware.cpu import cpu_name

from tools.experiments.cost_model_report import DATA, write_report
from tools.experiments.machine import NOISY, OthersWatch, wait_until_quiet

POSITIONS = (16, 600, 2000)  # of decoded tokens and prefill chunks
CONTEXT = 2304
RUNS = 7
_STRETCHES = 3
_LEAST_SECONDS = 0.4  # of all runs of a case together: whether others are busy cannot be told from less


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of the engine. `stages`: the Programs it runs, in order, as `_core.model_programs` names them."""

    name: str
    tile: tuple[int, int]
    branch: str
    stages: tuple[str, ...]
    before: Callable[[_core.Session], object]  # brings the session into the state that `run` starts from
    run: Callable[[_core.Session], object]
    rows: int | None = None
    position: int | None = None


def cases(engine: Engine) -> Iterator[Case]:
    """What is measured of a checkpoint: the full tile and two smaller ones of each branch, the VRC, prefill and decode."""
    rng = np.random.default_rng(0)
    tiling = engine.config.tiling
    unit = engine.config.vision_configs[engine.default_branch].patch_size * tiling.pixel_shuffle
    side = tiling.tile_size
    smaller = max(unit, side * 5 // 8 // unit * unit)
    shapes = [(side, side), (smaller, side), (smaller, smaller)]
    nothing = lambda session: None  # noqa: E731
    for branch in engine.branches:
        for height, width in dict.fromkeys(shapes):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            size = f"{height}x{width}"
            run = lambda session, image=image, branch=branch: session.encode(image, 1.0, branch)  # noqa: E731
            yield Case(f"{branch} tile {size}", (height, width), branch, (f"tile {size}", f"projector {size}"), nothing, run)
    branch = engine.default_branch
    if engine.config.vrc_config is not None:
        image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        yield Case("vrc", (side, side), branch, ("vrc",), nothing, lambda session: session.vrc_scale(image))
    ids = rng.integers(0, engine.tokenizer.vocab_size // 2, CONTEXT, dtype=np.int32)

    def fill(position: int) -> Callable[[_core.Session], object]:
        def before(session: _core.Session) -> None:
            if session.length < position:
                session.prefill(ids[session.length : position])
            session.truncate(position)

        return before

    for position in POSITIONS:
        for rows in (_core.PREFILL_CHUNK, 50):
            prefill = lambda session, n=rows: session.prefill(ids[:n])  # noqa: E731
            yield Case(f"prefill {rows} at {position}", (side, side), branch, ("prefill", "head"), fill(position), prefill, rows, position)
        decode = lambda session: session.decode(7)  # noqa: E731
        yield Case(f"decode at {position}", (side, side), branch, ("decode", "head"), fill(position), decode, 1, position)


def op_seconds(events: list[dict[str, Any]], ops: int) -> list[float]:
    """Seconds of the kernels of one run, by op."""
    out = [0.0] * ops
    for event in events:
        if event["track"] == "compute":
            out[event["op"]] += event["duration_us"] * 1e-6
    return out


def measure(case: Case, session: _core.Session, ops: list[int], runs: int, wait_s: float) -> tuple[list[list[float]], bool]:
    """By stage and op, the fastest of the runs: the figures of a calibration are the machine's best too. True where others were busy.

    Runs come in stretches, the next one after a pause, until there is one during which others left the machine alone.
    """
    samples: list[list[list[float]]] = []
    case.before(session)
    case.run(session)  # warms up
    noisy = True
    for attempt in range(_STRETCHES):
        if attempt > 0:
            wait_until_quiet(wait_s)
        most = len(samples) + runs
        watch = OthersWatch()
        start = time.perf_counter()
        while len(samples) < most or time.perf_counter() - start < _LEAST_SECONDS:
            case.before(session)
            session.start_trace()
            case.run(session)
            trace = session.take_trace()
            samples.append([op_seconds(events, n) for (_, events), n in zip(trace, ops, strict=True)])
        noisy = watch.share() >= NOISY
        if not noisy:
            break
    return [[min(sample[stage][op] for sample in samples) for op in range(n)] for stage, n in enumerate(ops)], noisy


def measure_checkpoint(path: str | None, spec: HardwareSpec, activation_bits: int, runs: int, wait_s: float) -> list[dict[str, Any]]:
    """A record for each op of each case: checkpoint, case, stage, op, kind, name, predicted_ms, measured_ms, noisy."""
    threads = int(spec.figures["contexts"].value)
    engine = load(path, threads=threads, activation_bits=activation_bits, context_length=CONTEXT, spec=spec)
    session = engine.new_session()
    records = []
    for case in cases(engine):
        programs = {
            stage: (program, plan) for stage, program, plan in _core.model_programs(engine.model, case.branch, [case.tile], CONTEXT)
        }
        reports = []
        for stage in case.stages:
            program, plan = programs[stage]
            run = (
                {}
                if case.rows is None
                else {"rows": 1, "position": 0}
                if stage == "head"
                else {"rows": case.rows, "position": case.position}
            )
            reports.append(_core.describe_plan(program, plan, spec.values(), **run))
        measured, noisy = measure(case, session, [len(report["ops"]) for report in reports], runs, wait_s)
        for report, stage, seconds in zip(reports, case.stages, measured, strict=True):
            for op, s in zip(report["ops"], seconds, strict=True):
                records.append({
                    "checkpoint": engine.path.name, "bits": activation_bits, "case": case.name, "stage": stage.split(" ")[0],
                    "op": op["index"], "kind": op["kind"], "name": op["name"], "bound": op["bound"],
                    "predicted_ms": op["ms"], "measured_ms": s * 1e3, "noisy": noisy,
                })  # fmt: skip
        ours, theirs = (sum(op["ms"] for report in reports for op in report["ops"]), sum(sum(s) for s in measured) * 1e3)
        print(
            f"{engine.path.name}: {case.name}: predicted {ours:.2f} ms, measured {theirs:.2f} ms{', busy machine' if noisy else ''}",
            flush=True,
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="folders, beside the demo model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--activation-bits", type=int, nargs="+", choices=(8, 16), default=[16, 8])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--calibrated", action="store_true", help="use the machine's calibration as kept, instead of a new one")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait at most for a quiet machine, each time others use it")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    quiet = wait_until_quiet(options.wait)
    spec = cpu_spec(options.threads) if options.calibrated else calibrated_spec(options.threads)
    records = []
    for path in (None, *options.checkpoints):
        for bits in options.activation_bits:
            wait_until_quiet(options.wait)
            records += measure_checkpoint(path, spec, bits, options.runs, options.wait)
    machine = {
        "cpu": cpu_name(), "cores": os.cpu_count(), "isa": _core.cpu_info()["isa"], "threads": options.threads,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "others_before": quiet["others_before"],
    }  # fmt: skip
    options.data.parent.mkdir(parents=True, exist_ok=True)
    options.data.write_text(json.dumps({"machine": machine, "spec": spec.to_dict(), "records": records}) + "\n")
    print(write_report(options.data))


if __name__ == "__main__":
    main()

"""One measurement of budget_sweep: a model in fast memory of a given size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import THREADS, serve
from tools.experiments.machine import measure_runs

_DECODED = 8


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: checkpoint, device, budget (bytes). Status "infeasible" where no plan fits."""
    import hypervl_engine
    from hypervl_engine import _core

    try:
        engine = hypervl_engine.load(
            Path(case["checkpoint"]), device=case["device"], vtcm=case["budget"], threads=THREADS, context_length=1024, progress=False
        )
    except MemoryError as error:
        return {"status": "infeasible", "reason": str(error)}
    session = engine.new_session()
    tile, chunk = engine.config.tiling.tile_size, _core.PREFILL_CHUNK
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (tile, tile, 3), dtype=np.uint8)
    ids = rng.integers(0, 256, chunk, dtype=np.int32)
    outputs = hashlib.sha256()

    def timed(run: Callable[[], None], stat: str, runs: int) -> float:
        def once() -> float:
            session.reset_stats()
            run()
            return float(session.stats()[stat]) / runs

        measured = measure_runs(once, seconds=6.0)
        noisy.append(measured["noisy"])
        return float(measured["latency_ms"])

    def prefill() -> None:
        session.reset()
        session.prefill(ids)

    def decode() -> None:
        session.truncate(chunk)
        for token in ids[:_DECODED]:
            session.decode(int(token))

    noisy: list[bool] = []
    stages: dict[str, dict[str, float]] = {}
    visual = engine.model.plan_image(tile, tile, 1.0)["visual_tokens"]
    for branch in engine.branches:
        ms = timed(lambda branch=branch: session.encode(rgb, 1.0, branch), "encode_ms", 1)  # type: ignore[misc]
        outputs.update(session.encode(rgb, 1.0, branch).tobytes())
        plan = engine.plan((tile, tile), branch=branch, text_tokens=chunk - visual)
        reports = {stage.name.split()[0]: report for stage, report in zip(plan.stages, plan.reports, strict=True)}
        stages[f"{branch} tile"] = _stage(ms, reports["tile"])
    stages["prefill"] = _stage(timed(prefill, "prefill_ms", 1), reports["prefill"], reports["head"])
    outputs.update(session.last_logits().tobytes())
    stages["decode"] = _stage(timed(decode, "decode_ms", _DECODED), reports["decode"], reports["head"])
    outputs.update(session.last_logits().tobytes())
    return {"sha256": outputs.hexdigest(), "stages": stages, "noisy": any(noisy), "prefill_tokens": chunk}


def _stage(ms: float, *reports: dict[str, Any]) -> dict[str, float]:
    """Measured time, and what was planned for the Programs that run one after another."""
    stage = {name: sum(report[name] for report in reports) for name in ("bytes_in", "bytes_out", "transfers", "predicted_ms")}
    return {"ms": ms, **stage, "peak_bytes": max(report["peak_bytes"] for report in reports)}


if __name__ == "__main__":
    serve(measure)

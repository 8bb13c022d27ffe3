"""Errors of logits against float32 of the same dequantised weights, at the full text model. Run by tools/bench_peers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.experiments.child import THREADS, serve

_POSITIONS = 128


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), engine ("hypervl", "torch"), setting ("a16", "a8", "bf16"). "error": median relative L2 of a position's logits.

    `prepare` keeps the logits of transformers in float32 (about 9 GB of memory) in the folder.
    """
    from tools.reference import qwen3, relative_l2, write_random

    folder, kept = Path(case["cache"]) / "outlier-text", Path(case["cache"]) / "outlier-text-logits.npy"
    ids = np.random.default_rng(1).integers(0, 150_000, _POSITIONS)
    if case.get("prepare"):
        if not (folder / "config.json").exists():
            write_random(folder, text={}, vision="tiny")
        if not kept.exists():
            np.save(kept, _torch(qwen3(folder), ids))
        return {}
    if case["engine"] == "hypervl":
        import hypervl_engine

        engine = hypervl_engine.load(
            folder, threads=THREADS, activation_bits=int(case["setting"][1:]), context_length=_POSITIONS + 16, progress=False
        )
        logits = engine.new_session().prefill(ids.astype(np.int32), logits=True)
        versions = {}
    else:
        import torch

        logits, versions = _torch(qwen3(folder).to(torch.bfloat16), ids), {"torch": torch.__version__}
    errors = relative_l2(logits, np.load(kept))
    return {"error": float(np.median(errors)), "worst_error": float(errors.max()), "versions": versions}


def _torch(model: Any, ids: Any) -> Any:
    import torch

    torch.set_num_threads(THREADS)
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None]).logits[0].float().numpy()


if __name__ == "__main__":
    serve(measure)

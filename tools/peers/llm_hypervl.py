"""Our engine's language model. Run by tools/bench_peers.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import serve
from tools.peers.llm import CONTEXT, THREAD_COUNT, Engine, measure_llm


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: checkpoint, setting ("a16", "a8")."""
    import hypervl_engine
    from hypervl_engine.work import decode_bytes

    start = time.perf_counter()
    engine = hypervl_engine.load(
        Path(case["checkpoint"]), threads=THREAD_COUNT, activation_bits=int(case["setting"][1:]), context_length=CONTEXT, progress=False
    )
    session = engine.new_session()
    session.prefill(np.arange(8, dtype=np.int32))
    load_s = time.perf_counter() - start

    def prefill(ids: NDArray[np.int64]) -> float:
        session.reset()
        start = time.perf_counter()
        session.prefill(ids.astype(np.int32))
        return time.perf_counter() - start

    def decode(ids: NDArray[np.int64], tokens: int) -> float:
        prefill(ids)
        start = time.perf_counter()
        for _ in range(tokens):
            session.decode(int(session.sample()["id"]))
        return time.perf_counter() - start

    cache = session.stats()["kv_cache_bytes"] / CONTEXT
    return {**measure_llm(Engine(prefill, decode, load_s, decode_bytes(engine.config), {})), "cache_bytes_per_token": cache}


if __name__ == "__main__":
    serve(measure)

"""How every engine's language model is timed: the same prompts, the same number of runs, in its own process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import THREADS
from tools.experiments.machine import OthersWatch, peak_rss_bytes

CONTEXT = 2048  # tokens every engine makes room for
THREAD_COUNT = THREADS
PREFILLS = (512, 1024)
DECODES = (8, 512)
_RUNS = 2
_NEW_TOKENS = 48
_VOCABULARY = 150_000  # ids below it are ordinary tokens everywhere


@dataclass(frozen=True)
class Engine:
    """prefill: seconds until the logits after `ids` are there, in an empty cache. decode: seconds of `tokens` single tokens after `ids`.

    load_s: from a file on disk to the first logits of a short prompt, imports apart.
    """

    prefill: Callable[[NDArray[np.int64]], float]
    decode: Callable[[NDArray[np.int64], int], float]
    load_s: float
    model_bytes: int
    versions: dict[str, str]


def prompt(tokens: int, number: int = 0) -> NDArray[np.int64]:
    """(tokens,) random ids, the same for every engine. Runs have numbers of their own: some engines keep the caches of prompts."""
    return np.random.default_rng((tokens, number)).integers(100, _VOCABULARY, tokens)


def measure_llm(engine: Engine, decodes: tuple[int, ...] = DECODES) -> dict[str, Any]:
    """Medians in tokens a second, the peak of resident memory, and how busy others were meanwhile.

    decodes: contexts after which single tokens are timed.
    """
    watch = OthersWatch()
    engine.prefill(prompt(64))
    engine.decode(prompt(8), 4)
    result: dict[str, Any] = {}
    for tokens in decodes:
        result[f"decode_{tokens}"] = statistics.median(
            _NEW_TOKENS / engine.decode(prompt(tokens, run), _NEW_TOKENS) for run in range(_RUNS)
        )
    for tokens in PREFILLS:
        result[f"prefill_{tokens}"] = statistics.median(tokens / engine.prefill(prompt(tokens, _RUNS + run)) for run in range(_RUNS))
    return {
        **result, "load_s": engine.load_s, "peak_rss_mib": peak_rss_bytes() / 2**20, "model_bytes": engine.model_bytes,
        "versions": engine.versions, "others": watch.share(),
    }  # fmt: skip

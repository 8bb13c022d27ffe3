"""How fast a loaded checkpoint runs on this machine, beside how fast the machine reads memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from . import _core
from .config import Config
from .engine import Engine
from .tensors import EMBEDDING, LM_HEAD, expected_tensors

_PROBE_BYTES = 256 << 20  # each thread's share: well beyond any cache


def read_bandwidth(threads: int, repeat: int = 5) -> float:
    """Bytes a second that `threads` threads read together: the best of `repeat` sums over arrays too big for caches."""
    arrays = [np.ones(_PROBE_BYTES // 8, dtype=np.int64) for _ in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeat):
            start = time.perf_counter()
            list(pool.map(np.sum, arrays))
            best = max(best, threads * _PROBE_BYTES / (time.perf_counter() - start))
    return best


def decode_bytes(config: Config) -> int:
    """Bytes of weights that one decoded token reads: every layer's linears and the head, packed, with their scales."""
    head = EMBEDDING if config.text_config.tie_word_embeddings else LM_HEAD
    size = 0
    for name, spec in expected_tensors(config).items():
        if spec.kind == "linear" and (name == head or name.startswith("model.language_model.layers.")):
            rows, cols = spec.shape
            size += rows * cols * spec.bits // 8
            size += rows * cols // spec.engine_group * 2  # a float16 scale for each group
    return size


def bench(
    engine: Engine, *, prompt_tokens: int = 256, new_tokens: int = 64, repeat: int = 3, progress: bool = True
) -> dict[str, Any]:
    """Times prefill, decode and one tile of every branch; medians of `repeat` runs (plain data, for JSON).

    Raises ValueError when prompt and new tokens do not fit the context.
    """
    if min(prompt_tokens, new_tokens, repeat) < 1 or prompt_tokens + new_tokens > engine.context_length:
        raise ValueError(
            f"{prompt_tokens} prompt and {new_tokens} new tokens, {repeat} times: expected at least 1 of each and "
            f"at most {engine.context_length} tokens together"
        )
    steps = tqdm(total=3 + len(engine.branches), desc="bench", disable=None if progress else True, leave=False)
    threads = engine.model.threads
    before = read_bandwidth(threads)
    steps.update()
    session = engine.new_session()
    rng = np.random.default_rng(0)
    ordinary = [i for i in range(engine.tokenizer.vocab_size) if not engine.tokenizer.is_special(i)]
    ids = rng.choice(np.asarray(ordinary, dtype=np.int32), prompt_tokens)

    def prefill() -> None:
        session.reset()
        session.prefill(ids)

    prefill_ms = _median_ms(prefill, repeat)
    steps.update()

    def decode() -> None:
        session.truncate(prompt_tokens)
        for token in ids[np.arange(new_tokens) % prompt_tokens]:
            session.decode(int(token))

    decode_ms = _median_ms(decode, repeat) / new_tokens
    steps.update()
    tiles = {}
    size = engine.config.tiling.tile_size
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    for branch in engine.branches:
        ms = _median_ms(lambda branch=branch: session.encode(image, 1.0, branch), repeat)  # type: ignore[misc]
        tiles[branch] = {"ms": ms, "visual_tokens": engine.model.plan_image(size, size, 1.0)["visual_tokens"]}
        steps.update()
    steps.close()
    bandwidth = max(before, read_bandwidth(threads))
    per_token = decode_bytes(engine.config)
    return {
        "threads": threads,
        "activation_bits": engine.activation_bits,
        "isa": _core.cpu_info()["isa"],
        "read_bandwidth_gb_s": bandwidth / 1e9,
        "prefill": {"tokens": prompt_tokens, "ms": prefill_ms, "tok_s": prompt_tokens / prefill_ms * 1e3},
        "decode": {
            "tokens": new_tokens,
            "ms_per_token": decode_ms,
            "tok_s": 1e3 / decode_ms,
            "weight_bytes_per_token": per_token,
            "bandwidth_share": per_token / (decode_ms / 1e3) / bandwidth,
        },
        "tile": tiles,
    }


def _median_ms(work: Callable[[], object], repeat: int) -> float:
    """Median time of `repeat` runs after one that warms up."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    decode, prefill = report["decode"], report["prefill"]
    lines = [
        f"threads {report['threads']}, {report['isa']}, A{report['activation_bits']}, "
        f"memory read at {report['read_bandwidth_gb_s']:.1f} GB/s",
        f"prefill  {prefill['tok_s']:9.1f} tokens/s  ({prefill['tokens']} tokens in {prefill['ms']:.1f} ms)",
        f"decode   {decode['tok_s']:9.1f} tokens/s  ({decode['ms_per_token']:.2f} ms a token, "
        f"{decode['bandwidth_share']:.0%} of the read bandwidth)",
    ]
    for branch, tile in report["tile"].items():
        lines.append(f"tile     {tile['ms']:9.1f} ms        ({branch}, {tile['visual_tokens']} visual tokens)")
    return "\n".join(lines)

"""How fast a loaded checkpoint runs on this machine, as shares of what the machine could do in the same minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from . import _core
from .devices import INTEGER_DEVICES
from .engine import Engine, load
from .roofline import READ, Beside, Limits
from .work import decode_bytes, prefill_operations, tile_operations


def load_ms(engine: Engine, repeat: int) -> dict[str, float]:
    """Milliseconds from `load()` of the engine's checkpoint, packed and verified before, to the end of a first prefill of 16 ids.

    load: until `load` returns. prefill: from there, the session and the first touch of the weights' pages included. The tokenizer is not
    read: ids need none.
    """
    load_times, prefill_times = [], []
    for _ in range(repeat):
        start = time.perf_counter()
        fresh = load(
            engine.path, threads=engine.model.threads, activation_bits=engine.activation_bits,
            kv_bits=engine.kv_bits, context_length=engine.context_length, progress=False,
            device=engine.spec.name if engine.spec.name in INTEGER_DEVICES else None,
        )  # fmt: skip
        loaded = time.perf_counter()
        fresh.new_session().prefill(np.arange(16, dtype=np.int32))
        load_times.append(loaded - start)
        prefill_times.append(time.perf_counter() - loaded)
    return {"load": float(np.median(load_times)) * 1e3, "prefill": float(np.median(prefill_times)) * 1e3}


def bench(engine: Engine, *, prompt_tokens: int = 256, new_tokens: int = 64, repeat: int = 3, progress: bool = True) -> dict[str, Any]:
    """Times prefill, decode and one tile of every branch; medians of `repeat` runs (plain data, for JSON).

    Decode is compared with reading memory; prefill and tiles with dot products of bytes, of which 16-bit activations take two for each
    multiplication. Raises ValueError when prompt and new tokens do not fit the context.
    """
    if min(prompt_tokens, new_tokens, repeat) < 1 or prompt_tokens + new_tokens > engine.context_length:
        raise ValueError(
            f"{prompt_tokens} prompt and {new_tokens} new tokens, {repeat} times: expected at least 1 of each and "
            f"at most {engine.context_length} tokens together"
        )
    steps = tqdm(total=2 + len(engine.branches), desc="bench", disable=None if progress else True, leave=False)
    limits = Limits(engine.model.threads)
    session = engine.new_session()
    rng = np.random.default_rng(0)
    ordinary = [i for i in range(engine.tokenizer.vocab_size) if not engine.tokenizer.is_special(i)]
    ids = rng.choice(np.asarray(ordinary, dtype=np.int32), prompt_tokens)
    dots, planes = limits.dots(), engine.activation_bits // 8

    def prefill() -> None:
        session.reset()
        session.prefill(ids)

    prefilled = _timed(limits, dots, prefill, repeat)
    steps.update()

    def decode() -> None:
        session.truncate(prompt_tokens)
        for token in ids[np.arange(new_tokens) % prompt_tokens]:
            session.decode(int(token))

    decoded = _timed(limits, READ, decode, repeat)
    jobs = session.parallel_jobs
    decode()
    barriers = (session.parallel_jobs - jobs) // new_tokens
    # Handing out nothing: what a step that several threads share costs beside its work.
    barrier_s = _core.time_kernel("launch", engine.model.threads, runs=20)
    weights = decode_bytes(engine.config)
    cached = session.stats()["kv_cache_bytes"] / engine.context_length * (prompt_tokens + (new_tokens + 1) / 2)
    steps.update()
    tiles = {}
    size = engine.config.tiling.tile_size
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    for branch, vision in engine.config.vision_configs.items():
        encoded = _timed(limits, dots, lambda branch=branch: session.encode(image, 1.0, branch), repeat)  # type: ignore[misc]
        operations = planes * tile_operations(engine.config, branch, (size // vision.patch_size) ** 2)
        tiles[branch] = {
            "ms": encoded.median_seconds * 1e3,
            "visual_tokens": engine.model.plan_image(size, size, 1.0)["visual_tokens"],
            **_share(encoded, operations),
        }
        steps.update()
    steps.close()
    return {
        "threads": engine.model.threads,
        "activation_bits": engine.activation_bits,
        "kv_bits": engine.kv_bits,
        "isa": _core.cpu_info()["isa"],
        "read_bandwidth_gb_s": decoded.median_rate / 1e9,
        "prefill": {
            "tokens": prompt_tokens,
            "ms": prefilled.median_seconds * 1e3,
            "tok_s": prompt_tokens / prefilled.median_seconds,
            **_share(prefilled, planes * prefill_operations(engine.config, prompt_tokens)),
        },
        "decode": {
            "tokens": new_tokens,
            "ms_per_token": decoded.median_seconds / new_tokens * 1e3,
            "tok_s": new_tokens / decoded.median_seconds,
            "weight_bytes_per_token": weights,
            "cache_bytes_per_token": round(cached),
            **_share(decoded, new_tokens * (weights + cached)),
            "barriers_per_token": barriers,
            "barrier_us": barrier_s * 1e6,
            "barrier_share": barriers * barrier_s * new_tokens / decoded.median_seconds,
        },
        "tile": tiles,
        "load_ms": load_ms(engine, repeat),
    }


def _share(measured: Beside, amount: float) -> dict[str, Any]:
    return {"limit": measured.kind, "limit_g_s": measured.median_rate / 1e9, "share": measured.share(amount)}


def _timed(limits: Limits, kind: str, work: Callable[[], object], repeat: int) -> Beside:
    """`repeat` runs after one that warms up."""

    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    work()
    return limits.beside(kind, seconds, rounds=repeat)


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    decode, prefill, loading = report["decode"], report["prefill"], report["load_ms"]
    dots = {"int8": "byte dots", "f32": "float32 FMA"}.get(prefill["limit"], prefill["limit"])
    lines = [
        f"threads {report['threads']}, {report['isa']}, A{report['activation_bits']}, KV{report['kv_bits']}, "
        f"memory read at {report['read_bandwidth_gb_s']:.1f} GB/s, {dots} at {prefill['limit_g_s']:.0f} G/s",
        f"prefill  {prefill['tok_s']:9.1f} tokens/s  ({prefill['tokens']} tokens in {prefill['ms']:.1f} ms, "
        f"{prefill['share']:.0%} of {dots})",
        f"decode   {decode['tok_s']:9.1f} tokens/s  ({decode['ms_per_token']:.2f} ms a token, {decode['share']:.0%} of the read bandwidth)",
        f"barriers {decode['barriers_per_token']:9d} a token ({decode['barrier_us']:.2f} us, {decode['barrier_share']:.1%} of a token)",
        f"load     {loading['load']:9.1f} ms        (and {loading['prefill']:.1f} ms for a first prefill of 16 ids)",
    ]
    for branch, tile in report["tile"].items():
        lines.append(
            f"tile     {tile['ms']:9.1f} ms        ({branch}, {tile['visual_tokens']} visual tokens, {tile['share']:.0%} of {dots})"
        )
    return "\n".join(lines)

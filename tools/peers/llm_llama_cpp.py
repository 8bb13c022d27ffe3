"""llama.cpp on random Q4_0 or Q8_0 weights: through llama-cpp-python's bindings, or a llama-bench program. Run by tools/bench_peers.py."""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import serve
from tools.peers.gguf import WEIGHTS, write_qwen3
from tools.peers.llm import CONTEXT, DECODES, PREFILLS, THREAD_COUNT, Engine, measure_llm


@dataclass(frozen=True)
class Settings:
    """flash: with flash attention. mapped: weights are mapped from the file; what is repacked of them (the default) is then there twice."""

    flash: bool
    weights: str = "q4_0"
    mapped: bool = True
    repack: bool = True

    @property
    def decodes(self) -> bool:
        """Q8_0 reads twice the bytes a token that Q4_0 does: it is there for its prefill."""
        return self.weights == "q4_0"


SETTINGS = {
    "fa": Settings(flash=True),
    "no-fa": Settings(flash=False),
    "fa unmapped": Settings(flash=True, mapped=False),
    "fa no-repack": Settings(flash=True, repack=False),
    "q8_0 fa": Settings(flash=True, weights="q8_0"),
    "q8_0 no-fa": Settings(flash=False, weights="q8_0"),
}


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), text (text_config), setting (see SETTINGS), llama_bench (a program, or absent)."""
    settings = SETTINGS[case["setting"]]
    model = Path(case["cache"]) / f"qwen3-1.7b-{settings.weights}-pure.gguf"
    if case.get("prepare"):
        if not model.exists():
            write_qwen3(model, case["text"], WEIGHTS[settings.weights])
        return {}
    if case.get("llama_bench"):
        return _program(case["llama_bench"], model, settings)
    result = measure_llm(_bindings(model, settings), decodes=DECODES if settings.decodes else ())
    if not settings.decodes:
        del result["peak_rss_mib"]  # not of all workloads
    return result


def _bindings(path: Path, settings: Settings) -> Engine:
    import llama_cpp as lib

    lib.llama_log_set(_silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    start = time.perf_counter()
    model_options = lib.llama_model_default_params()
    if not settings.mapped and hasattr(model_options, "load_mode"):
        model_options.load_mode = lib.LLAMA_LOAD_MODE_NONE
    elif not settings.mapped:  # before there was more than one other way
        model_options.use_mmap = False
    model_options.use_extra_bufts = settings.repack
    model = lib.llama_model_load_from_file(str(path).encode(), model_options)
    options = lib.llama_context_default_params()
    options.n_ctx = options.n_batch = CONTEXT
    options.n_threads = options.n_threads_batch = THREAD_COUNT
    if hasattr(options, "flash_attn_type"):
        options.flash_attn_type = int(settings.flash)
    else:  # before it could be left to the library
        options.flash_attn = settings.flash
    context = lib.llama_init_from_model(model, options)
    if not model or not context:
        raise RuntimeError(f"llama.cpp does not load {path}")

    def feed(ids: NDArray[np.int64]) -> None:
        tokens = (lib.llama_token * len(ids))(*ids.tolist())
        if lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError(f"llama_decode fails on {len(ids)} tokens")
        lib.llama_get_logits(context)  # waits for them

    def prefill(ids: NDArray[np.int64]) -> float:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        start = time.perf_counter()
        feed(ids)
        return time.perf_counter() - start

    def decode(ids: NDArray[np.int64], tokens: int) -> float:
        prefill(ids)
        one = ids[:1]
        start = time.perf_counter()
        for _ in range(tokens):
            feed(one)
        return time.perf_counter() - start

    prefill(np.arange(8))
    load_s = time.perf_counter() - start
    return Engine(prefill, decode, load_s, path.stat().st_size, {"llama-cpp-python": lib.__version__})


def _silent_log(level: int, text: bytes, data: Any) -> None:
    """llama.cpp tells a lot while loading."""


_silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_silent_log)


def _program(program: str, model: Path, settings: Settings) -> dict[str, Any]:
    """The same figures from llama-bench, which loads the model for each."""
    common = [program, "-m", str(model), "-t", str(THREAD_COUNT), "-fa", str(int(settings.flash)), "-r", "2", "-o", "json"]
    common += [] if settings.mapped else ["-lm", "none"]
    common += [] if settings.repack else ["--repack", "0"]

    def run(*arguments: str) -> dict[str, Any]:
        return dict(json.loads(subprocess.run([*common, *arguments], check=True, capture_output=True, text=True).stdout)[0])

    result: dict[str, Any] = {"model_bytes": model.stat().st_size}
    for tokens in DECODES if settings.decodes else ():
        result[f"decode_{tokens}"] = run("-p", "0", "-n", "48", "-d", str(tokens))["avg_ts"]
    for tokens in PREFILLS:
        record = run("-p", str(tokens), "-n", "0")
        result[f"prefill_{tokens}"] = record["avg_ts"]
    if settings.decodes:  # of all workloads
        result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {**result, "versions": {"llama.cpp": str(record.get("build_commit"))}}


if __name__ == "__main__":
    serve(measure)

"""ONNX Runtime GenAI with 4-bit weights in groups of 128 and 8-bit activations. Run by tools/bench_peers.py."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import serve
from tools.peers.huggingface import write_folder
from tools.peers.llm import THREAD_COUNT, Engine, measure_llm


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), text (text_config), tokenizer (tokenizer.json), setting ("int4")."""
    cache = Path(case["cache"])
    folder = cache / "qwen3-1.7b-onnx-int4-pruned"
    if case.get("prepare"):
        if not (folder / "genai_config.json").exists():
            write_folder(cache / "qwen3-1.7b-bf16", case["text"], Path(case["tokenizer"]))
            _export(cache / "qwen3-1.7b-bf16", folder)
        return {}
    import onnxruntime_genai

    start = time.perf_counter()
    config = onnxruntime_genai.Config(str(folder))
    config.clear_providers()
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": THREAD_COUNT}}}}))
    model = onnxruntime_genai.Model(config)

    def generate(ids: NDArray[np.int64], tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and of the `tokens` after it."""
        length = len(ids) + tokens + 2
        options = onnxruntime_genai.GeneratorParams(model)
        options.set_search_options(do_sample=False, max_length=length, min_length=length, batch_size=1)
        generator = onnxruntime_genai.Generator(model, options)
        start = time.perf_counter()
        generator.append_tokens(ids[None].astype(np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        return first - start, time.perf_counter() - first

    generate(np.arange(100, 108), 1)
    load_s = time.perf_counter() - start
    size = sum(file.stat().st_size for file in folder.iterdir() if ".onnx" in file.name)
    versions = {"onnxruntime-genai": onnxruntime_genai.__version__}
    return measure_llm(Engine(lambda ids: generate(ids, 0)[0], lambda ids, tokens: generate(ids, tokens)[1], load_s, size, versions))


def _export(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(target), "-p", "int4", "-e", "cpu"]
    # pruned: logits of a prompt's last token only, which is all that any engine here computes
    options = ["--extra_options", "accuracy_level=4", "block_size=128", "is_symmetric=true", "prune_lm_head=true"]
    done = subprocess.run([*command, "-c", str(target.parent), *options], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"onnxruntime_genai.models.builder: {' '.join(done.stderr.split())[-300:]}")


if __name__ == "__main__":
    serve(measure)

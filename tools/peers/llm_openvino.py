"""OpenVINO GenAI with 4-bit weights in groups of 128. Run by tools/bench_peers.py."""

from __future__ import annotations

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

# "dq128": activations in 8 bit, a scale for each 128; "default": what the library chooses.
_PROPERTIES: dict[str, dict[str, Any]] = {"dq128": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}, "default": {}}


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), text (text_config), tokenizer (tokenizer.json), setting (see _PROPERTIES)."""
    cache = Path(case["cache"])
    folder = cache / "qwen3-1.7b-openvino-int4"
    if case.get("prepare"):
        if not (folder / "openvino_model.bin").exists():
            write_folder(cache / "qwen3-1.7b-bf16", case["text"], Path(case["tokenizer"]))
            _export(cache / "qwen3-1.7b-bf16", folder)
        return {}
    import openvino
    import openvino_genai

    start = time.perf_counter()
    pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", INFERENCE_NUM_THREADS=THREAD_COUNT, **_PROPERTIES[case["setting"]])

    def generate(ids: NDArray[np.int64], tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and for each one after it."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        mask = openvino.Tensor(np.ones((1, len(ids)), np.int64))
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(np.ascontiguousarray(ids[None])), mask)
        metrics = pipeline.generate(inputs, config).perf_metrics
        return metrics.get_ttft().mean / 1e3, metrics.get_tpot().mean / 1e3

    generate(np.arange(100, 108), 1)
    load_s = time.perf_counter() - start
    return measure_llm(
        Engine(
            prefill=lambda ids: generate(ids, 1)[0],
            decode=lambda ids, tokens: generate(ids, tokens + 1)[1] * tokens,
            load_s=load_s,
            model_bytes=(folder / "openvino_model.bin").stat().st_size,
            versions={"openvino": openvino.__version__, "openvino-genai": openvino_genai.__version__},
        )
    )


def _export(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", str(source)]
    command += ["--task", "text-generation-with-past", "--weight-format", "int4", "--sym", "--group-size", "128", "--ratio", "1.0"]
    done = subprocess.run([*command, "--all-layers", str(target)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"optimum export: {' '.join(done.stderr.split())[-300:]}")


if __name__ == "__main__":
    serve(measure)

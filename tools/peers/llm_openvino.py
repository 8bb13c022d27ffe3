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
from tools.experiments.openvino_dots import dot_kind
from tools.peers.huggingface import write_folder
from tools.peers.llm import THREAD_COUNT, Engine, measure_llm

# "default": what the library chooses. "dq128": activations of 8 bits, a scale for each 128; 2026.4 heeds that only when it computes in f32:
# on processors with bf16 it is what "default" is, and "f32-dq128" makes it compute in f32.
_DYNAMIC_QUANTIZATION = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
PROPERTIES: dict[str, dict[str, Any]] = {
    "dq128": _DYNAMIC_QUANTIZATION,
    "default": {},
    "f32-dq128": {**_DYNAMIC_QUANTIZATION, "INFERENCE_PRECISION_HINT": "f32"},
}


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), text (text_config), tokenizer (tokenizer.json), setting (see PROPERTIES)."""
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
    properties = {"INFERENCE_NUM_THREADS": THREAD_COUNT, **PROPERTIES[case["setting"]]}
    pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", **properties)

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
    result = measure_llm(
        Engine(
            prefill=lambda ids: generate(ids, 1)[0],
            decode=lambda ids, tokens: generate(ids, tokens + 1)[1] * tokens,
            load_s=load_s,
            model_bytes=(folder / "openvino_model.bin").stat().st_size,
            versions={"openvino": openvino.__version__, "openvino-genai": openvino_genai.__version__},
        )
    )
    return {**result, "dots": _dots(folder, properties)}


def _dots(folder: Path, properties: dict[str, Any]) -> str | None:
    """Of the same model outside the pipeline, which does not show its graph."""
    import openvino

    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", properties)
    ids = np.arange(64)[None]
    compiled({"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": ids, "beam_idx": np.zeros(1, np.int32)})
    return dot_kind(compiled)


def _export(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", str(source)]
    command += ["--task", "text-generation-with-past", "--weight-format", "int4", "--sym", "--group-size", "128", "--ratio", "1.0"]
    done = subprocess.run([*command, "--all-layers", str(target)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"optimum export: {' '.join(done.stderr.split())[-300:]}")


if __name__ == "__main__":
    serve(measure)

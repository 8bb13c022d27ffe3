"""transformers' Qwen3 in bf16. Run by tools/bench_peers.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.experiments.child import serve
from tools.peers.huggingface import write_folder
from tools.peers.llm import THREAD_COUNT, Engine, measure_llm


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """case: cache (folder), text (text_config), tokenizer (tokenizer.json), setting ("bf16")."""
    folder = Path(case["cache"]) / "qwen3-1.7b-bf16"
    if case.get("prepare"):
        write_folder(folder, case["text"], Path(case["tokenizer"]))
        return {}
    import torch
    import transformers
    from transformers import DynamicCache, Qwen3ForCausalLM

    torch.set_num_threads(THREAD_COUNT)
    start = time.perf_counter()
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    last: list[Any] = []

    def prefill(ids: NDArray[np.int64]) -> float:
        cache = DynamicCache(config=model.config)
        tokens = torch.from_numpy(ids)[None]
        start = time.perf_counter()
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        spent = time.perf_counter() - start
        last[:] = [cache, logits[:, -1:].argmax(-1)]
        return spent

    def decode(ids: NDArray[np.int64], tokens: int) -> float:
        prefill(ids)
        cache, token = last
        start = time.perf_counter()
        for _ in range(tokens):
            token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        return time.perf_counter() - start

    with torch.inference_mode():
        prefill(np.arange(8))
        load_s = time.perf_counter() - start
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return measure_llm(Engine(prefill, decode, load_s, (folder / "model.safetensors").stat().st_size, versions))


if __name__ == "__main__":
    serve(measure)

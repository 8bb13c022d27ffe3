"""Random bf16 weights of a Qwen3 model as a Hugging Face folder: what torch, OpenVINO's and ONNX Runtime's exporters start from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def write_folder(folder: Path, text: dict[str, Any], tokenizer: Path) -> None:
    """text: the text_config of a checkpoint; tokenizer: a tokenizer.json, which exporters want to see. Nothing is done when it is there."""
    if (folder / "config.json").exists():
        return
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pool = (torch.randn(1 << 24, generator=generator) * 0.02).to(torch.bfloat16)  # values do not matter for speed

    def matrix(rows: int, cols: int) -> torch.Tensor:
        begin = int(torch.randint(0, 1 << 20, (1,), generator=generator))
        values = pool[begin:]
        return values.repeat(-(-rows * cols // values.numel()))[: rows * cols].reshape(rows, cols).clone()

    def ones(count: int) -> torch.Tensor:
        return torch.ones(count, dtype=torch.bfloat16)

    hidden, inner, head_dim = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    query, kv = text["num_attention_heads"] * head_dim, text["num_key_value_heads"] * head_dim
    tensors = {"model.embed_tokens.weight": matrix(text["vocab_size"], hidden), "model.norm.weight": ones(hidden)}
    for layer in range(text["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = ones(hidden)
        for name in ("q_norm", "k_norm"):
            tensors[f"{at}self_attn.{name}.weight"] = ones(head_dim)
        shapes = {
            "self_attn.q_proj": (query, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, query), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }  # fmt: skip
        for name, shape in shapes.items():
            tensors[f"{at}{name}.weight"] = matrix(*shape)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    _json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 40960})
    tokens = {"bos_token_id": text["bos_token_id"], "eos_token_id": text["eos_token_id"], "pad_token_id": text["bos_token_id"]}
    _json(folder / "generation_config.json", tokens)
    # Keys of transformers 4 and 5 side by side: exporters differ in the version they need.
    rope = {"rope_theta": text["rope_theta"], "rope_scaling": None}
    config = {
        **text, **tokens, **rope, "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "hidden_act": "silu",
        "torch_dtype": "bfloat16", "use_sliding_window": False, "max_window_layers": text["num_hidden_layers"],
    }  # fmt: skip
    _json(folder / "config.json", config)


def _json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1))

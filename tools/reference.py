"""The same checkpoint in code that is not ours: packed folders dequantised into transformers' modules, float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypervl_engine.convert import convert_random
from hypervl_engine.convert.random_model import PRESETS
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file


def write_random(
    folder: Path, *, text: dict[str, Any] | None = None, vision: str = "tiny", seed: int = 0, tiling: dict[str, Any] | None = None
) -> Path:
    """A random packed checkpoint whose hidden states have outlier channels: 1 % of each norm's weights are eight times as large.

    Not so q_norm and k_norm: there float16 keys and values alone (float32 otherwise, in transformers) cost 1.1e-3 of the logits.

    `text`: what differs from the published text config, or None for the tiny one; `vision`: the preset of the towers.
    """
    values = dict(PRESETS["tiny"]) | {k: v for k, v in PRESETS[vision].items() if k != "text_config"}
    if text is not None:
        values["text_config"] = PRESETS["hypervl-1.8b"]["text_config"] | text
    values["tiling"] = {**values["tiling"], **(tiling or {})}
    with mock.patch.dict(PRESETS, {"reference": values}):
        convert_random("reference", folder, seed=seed, progress=False)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        generator = torch.Generator().manual_seed(seed)
        for name, value in tensors.items():
            if "norm" in name and name.endswith(".weight") and not name.endswith(("q_norm.weight", "k_norm.weight")):
                outliers = torch.randperm(value.numel(), generator=generator)[: -(-value.numel() // 100)]
                value[outliers] *= 8.0
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def dequantised(folder: Path) -> dict[str, torch.Tensor]:
    """Float32 tensors by float name; linears are unpacked as compressed-tensors' pack-quantized stores them."""
    stored: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= load_file(file)
    out = {name: t.float() for name, t in stored.items() if not name.endswith(("_packed", "_scale", "_shape"))}
    for name, packed in stored.items():
        if not name.endswith(".weight_packed"):
            continue
        base = name.removesuffix(".weight_packed")
        rows, cols = (int(n) for n in stored[base + ".weight_shape"])
        scale = stored[base + ".weight_scale"].float()
        bits = 4 if packed.shape[1] * 8 < cols + 8 else 8
        words = packed.numpy().view(np.uint32)
        per_word = 32 // bits
        q = np.empty((rows, words.shape[1], per_word), np.float32)
        for i in range(per_word):
            q[:, :, i] = (words >> (bits * i)) & (2**bits - 1)
        weight = torch.from_numpy(q.reshape(rows, -1)[:, :cols]).sub_(2.0 ** (bits - 1))
        out[base + ".weight"] = weight.mul_(scale.repeat_interleave(cols // scale.shape[1], dim=1))
    return out


def siglip(folder: Path, branch: str) -> Any:
    """transformers' SiglipVisionModel of a branch; call it with pixel_values (n, 3, h, w)."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    values = json.loads((folder / "config.json").read_text())["vision_configs"][branch]
    keys = "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size hidden_act layer_norm_eps"
    config = SiglipVisionConfig(**{k: values[k] for k in keys.split() if k in values}, vision_use_head=False)
    model = SiglipVisionModel(config).eval()
    prefix = f"model.vision_tower.{branch}."
    weights = {n.removeprefix(prefix): t for n, t in dequantised(folder).items() if n.startswith(prefix)}
    p = config.patch_size
    key = "embeddings.patch_embedding.weight"
    weights[key] = weights[key].reshape(config.hidden_size, 3, p, p)
    own = model.state_dict()
    lead = "vision_model." if any(n.startswith("vision_model.") for n in own) else ""
    missing, unexpected = model.load_state_dict({lead + n: t for n, t in weights.items()}, strict=False)
    assert not unexpected
    assert not [n for n in missing if "head" not in n]
    return model


def qwen3(folder: Path) -> Any:
    """transformers' Qwen3ForCausalLM."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    values = json.loads((folder / "config.json").read_text())["text_config"]
    theta = values.pop("rope_theta")
    values.pop("model_type", None)
    values.setdefault("hidden_act", "silu")
    config = Qwen3Config(**values, rope_parameters={"rope_type": "default", "rope_theta": theta}, attention_bias=False)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    weights = {
        "model." + n.removeprefix("model.language_model."): t
        for n, t in dequantised(folder).items()
        if n.startswith("model.language_model.")
    }
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)  # no second copy of the weights
    assert not missing
    assert not unexpected
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers are in no state dict
    return model.eval()


def relative_l2(values: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """|values - reference| / |reference| over the last axis."""
    error = values.astype(np.float64) - reference
    return np.linalg.norm(error, axis=-1) / np.linalg.norm(reference.astype(np.float64), axis=-1)

"""Checkpoints with random weights: the published shapes for benchmarks, small ones for tests.

Weights are drawn in packed form, with the spread trained ones have: integers about normal over their range, scales that
differ by group, activations that keep their size from layer to layer, biases that are not zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervl_engine.config import Config, VrcConfig
from hypervl_engine.convert.synthetic_tokenizer import special_ids
from hypervl_engine.convert.vrc import FloatLayer, quantize_layers
from hypervl_engine.tensors import EMBEDDING, LM_HEAD, TensorSpec, vrc_layers

_SPREAD = {4: 2.7, 8: 40.0}  # standard deviation of the integers


def _text(
    vocab: int, hidden: int, inner: int, layers: int, heads: int, kv: int, dim: int, context: int
) -> dict[str, Any]:
    ids = special_ids(vocab)
    return {
        "model_type": "qwen3",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": dim,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "eos_token_id": ids["<|im_end|>"],
        "bos_token_id": ids["<|endoftext|>"],
    }


def _vision(hidden: int, inner: int, layers: int, heads: int, image: int, patch: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
    }


_GRID = [round(0.1 + 0.05 * i, 2) for i in range(19)]
_MOBILENET = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]

PRESETS: dict[str, dict[str, Any]] = {
    "hypervl-1.8b": {
        "text_config": _text(151_936, 2048, 6144, 28, 16, 8, 128, 40_960),
        "vision_configs": {
            "base": _vision(768, 3072, 12, 12, 256, 16),
            "large": _vision(1024, 4096, 24, 16, 256, 16),
        },
        "projector_configs": {"base": {"hidden_size": 2048}, "large": {"hidden_size": 2048}},
        "tiling": {"tile_size": 256},
        "vrc_config": {
            "image_size": 224,
            "stem_channels": 32,
            "blocks": _MOBILENET,
            "last_channels": 1280,
            "hidden_size": 128,
            "size_norm": 2048,
            "grid": _GRID,
        },
    },
    "tiny": {
        "text_config": _text(512, 128, 256, 2, 4, 2, 32, 2048),
        "vision_configs": {"base": _vision(64, 128, 2, 2, 64, 16), "large": _vision(96, 192, 3, 3, 64, 16)},
        "projector_configs": {"base": {"hidden_size": 96}, "large": {"hidden_size": 128}},
        "tiling": {"tile_size": 64},
        "vrc_config": {
            "image_size": 32,
            "stem_channels": 8,
            "blocks": [[1, 8, 1, 1], [4, 16, 2, 2], [4, 24, 2, 2]],
            "last_channels": 48,
            "hidden_size": 24,
            "size_norm": 512,
            "grid": _GRID,
        },
    },
}


def preset_config(name: str, layers: int | None) -> Config:
    """A preset's config, its depths cut to `layers` at most. ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]
    ids = special_ids(preset["text_config"]["vocab_size"])
    values = {
        "model_type": "hypervl",
        "default_branch": "large",
        "preprocessor": {},
        "image_token_id": ids["<|image_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        **preset,
    }
    if layers is not None:
        cut: Callable[[dict[str, Any]], dict[str, Any]] = lambda c: {  # noqa: E731
            **c,
            "num_hidden_layers": min(layers, c["num_hidden_layers"]),
        }
        values["text_config"] = cut(preset["text_config"])
        values["vision_configs"] = {branch: cut(c) for branch, c in preset["vision_configs"].items()}
    return Config.from_dict(values)


class RandomWeights:
    """Draws tensors; the same seed and name always give the same values."""

    def __init__(self, config: Config, seed: int) -> None:
        self._config = config
        self._seed = seed

    def _rng(self, name: str, part: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self._seed, zlib.crc32(name.encode()), part]))

    def linear(
        self, name: str, spec: TensorSpec, begin: int, end: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows begin..end as words and scales (exact in F16)."""
        rng = self._rng(name, begin)
        rows, columns = end - begin, spec.shape[1]
        words = -(-columns * spec.bits // 32)
        table = _packed_normals(spec.bits)
        drawn = np.frombuffer(rng.bytes(rows * words * 4 * table.itemsize_in), table.dtype_in)
        packed = table.values[drawn].view("<i4").reshape(rows, words)
        spread = self._spread(name, columns) / _SPREAD[spec.bits]
        scales = spread * np.exp(rng.normal(0.0, 0.15, (rows, spec.groups)))
        return packed, scales.astype(np.float16).astype(np.float32)

    def _spread(self, name: str, columns: int) -> float:
        """The weights' standard deviation."""
        if name in (EMBEDDING, LM_HEAD):
            return 3.0 / float(np.sqrt(columns))  # logits spread over several units, not nearly tied
        gain = 1.0
        if name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")):
            gain = 0.5  # what is added to the residual stream stays small beside it
        return gain / float(np.sqrt(columns))

    def array(self, name: str, spec: TensorSpec) -> NDArray[np.float32]:
        """A norm, bias or position table."""
        values = self._rng(name).normal(0.0, 1.0, spec.shape)
        if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name:
            return np.asarray(1.0 + 0.1 * values, np.float32)
        return np.asarray((0.3 if "position" in name else 0.05) * values, np.float32)

    def vrc(self, config: VrcConfig) -> dict[str, NDArray[np.generic]]:
        """A VRC whose activations keep their size, and which tends to scales in the upper half of the grid."""
        layers = []
        for spec in vrc_layers(config):
            rng = self._rng(spec.name)
            last = spec.name.endswith("fc2")
            gain = 0.05 if last else 0.2 if spec.name.endswith("pool") else 1.4
            weight = rng.normal(0.0, gain / np.sqrt(np.prod(spec.shape[1:])), spec.shape).astype(np.float32)
            bias = np.full(spec.shape[0], 0.7) if last else rng.normal(0.1, 0.2, spec.shape[0])
            layers.append(FloatLayer(spec, weight, bias.astype(np.float32), None))
        return quantize_layers(layers, config)


class _Table:
    """Random integers of `dtype_in` -> bytes of packed, normally spread values."""

    def __init__(self, values: NDArray[np.uint8], dtype_in: type[np.unsignedinteger[Any]]) -> None:
        self.values = values
        self.dtype_in = dtype_in
        self.itemsize_in = np.dtype(dtype_in).itemsize


@cache
def _packed_normals(bits: int) -> _Table:
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)]) * _SPREAD[bits]
    high = 2 ** (bits - 1)
    values = (np.clip(np.rint(quantiles), -high, high - 1) + high).astype(np.uint8)
    if bits == 8:
        return _Table(values, np.uint8)
    return _Table((values[None, :] | values[:, None] << np.uint8(4)).reshape(-1), np.uint16)

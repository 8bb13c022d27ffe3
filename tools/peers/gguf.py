"""A Qwen3 model with random weights of 4 or 8 bits as a GGUF file, for llama.cpp. No tokenizer: token ids are all that is timed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_ALIGNMENT = 32
_UINT32, _FLOAT32, _STRING = 4, 6, 8  # types of metadata
_F32 = 0  # type of a tensor


@dataclass(frozen=True)
class Weights:
    """How matrices are kept: blocks of 32 weights, a float16 scale before their integers. tensor, file: GGUF's numbers for them."""

    tensor: int
    file: int
    block_bytes: int


_BLOCK = 32
WEIGHTS = {"q4_0": Weights(tensor=2, file=2, block_bytes=18), "q8_0": Weights(tensor=8, file=7, block_bytes=34)}


def write_qwen3(path: Path, text: dict[str, Any], weights: Weights) -> None:
    """text: the text_config of a checkpoint. Every matrix has these weights (what llama-quantize calls --pure), norms are ones."""
    tensors = list(_tensors(text))
    metadata = _metadata(text, weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, (kind, value) in metadata.items():
            file.write(_string(key) + struct.pack("<I", kind) + _value(kind, value))
        offset = 0
        for name, shape in tensors:
            kind, size = _layout(shape, weights)
            dimensions = shape[::-1]  # the fastest first
            file.write(_string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset))
            offset += _padded(size)
        file.write(bytes(-file.tell() % _ALIGNMENT))
        rng = np.random.default_rng(0)
        for _, shape in tensors:
            _write_tensor(file, shape, weights, rng)
    part.rename(path)


def _metadata(text: dict[str, Any], weights: Weights) -> dict[str, tuple[int, Any]]:
    return {
        "general.architecture": (_STRING, "qwen3"),
        "general.name": (_STRING, "random"),
        "general.file_type": (_UINT32, weights.file),
        "general.quantization_version": (_UINT32, 2),
        "qwen3.vocab_size": (_UINT32, text["vocab_size"]),
        "qwen3.context_length": (_UINT32, text["max_position_embeddings"]),
        "qwen3.embedding_length": (_UINT32, text["hidden_size"]),
        "qwen3.block_count": (_UINT32, text["num_hidden_layers"]),
        "qwen3.feed_forward_length": (_UINT32, text["intermediate_size"]),
        "qwen3.attention.head_count": (_UINT32, text["num_attention_heads"]),
        "qwen3.attention.head_count_kv": (_UINT32, text["num_key_value_heads"]),
        "qwen3.attention.key_length": (_UINT32, text["head_dim"]),
        "qwen3.attention.value_length": (_UINT32, text["head_dim"]),
        "qwen3.attention.layer_norm_rms_epsilon": (_FLOAT32, text["rms_norm_eps"]),
        "qwen3.rope.freq_base": (_FLOAT32, text["rope_theta"]),
        "tokenizer.ggml.model": (_STRING, "none"),
    }


def _tensors(text: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, head_dim = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    query, kv = text["num_attention_heads"] * head_dim, text["num_key_value_heads"] * head_dim
    yield "token_embd.weight", (text["vocab_size"], hidden)
    yield "output_norm.weight", (hidden,)
    for layer in range(text["num_hidden_layers"]):
        shapes = {
            "attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q_norm": (head_dim,), "attn_k_norm": (head_dim,),
            "attn_q": (query, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden), "attn_output": (hidden, query),
            "ffn_gate": (inner, hidden), "ffn_up": (inner, hidden), "ffn_down": (hidden, inner),
        }  # fmt: skip
        for name, shape in shapes.items():
            yield f"blk.{layer}.{name}.weight", shape


def _layout(shape: tuple[int, ...], weights: Weights) -> tuple[int, int]:
    """Type and bytes of a tensor."""
    count = int(np.prod(shape))
    return (_F32, 4 * count) if len(shape) == 1 else (weights.tensor, count // _BLOCK * weights.block_bytes)


def _write_tensor(file: BinaryIO, shape: tuple[int, ...], weights: Weights, rng: np.random.Generator) -> None:
    kind, size = _layout(shape, weights)
    if kind == _F32:
        file.write(np.ones(shape, "<f4").tobytes())
    else:
        for begin in range(0, shape[0], 4096):
            blocks = min(4096, shape[0] - begin) * shape[1] // _BLOCK
            values = rng.integers(0, 256, (blocks, weights.block_bytes), dtype=np.uint8)
            values[:, :2] = np.full(blocks, 0.01, "<f2").view(np.uint8).reshape(-1, 2)
            file.write(values.tobytes())
    file.write(bytes(_padded(size) - size))


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(kind: int, value: Any) -> bytes:
    return _string(value) if kind == _STRING else struct.pack("<I" if kind == _UINT32 else "<f", value)

"""Float weights under HyperVL's names, from a whole HyperVL folder or put together from the published parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervl_engine.config import Config, read_json
from hypervl_engine.convert.vrc_names import vrc_tensors
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFolder, widen

SPECIAL_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


@dataclass
class FloatSource:
    """A config and the float tensors it asks for, each read only when needed."""

    config: Config
    tensors: dict[str, tuple[SafetensorsFolder, str]]  # our name -> (where, its name there)
    tokenizer: Path  # folder of tokenizer.json
    generation_config: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    batch_norm_eps: float = 1e-5

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """CheckpointError when there is no such tensor."""
        if name not in self.tensors:
            raise CheckpointError(f"expected a tensor {name}, none of the sources has it")
        folder, stored = self.tensors[name]
        return folder[stored].shape

    def read(self, name: str, shape: tuple[int, ...], begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Rows begin..end of a tensor of `shape`, as float32. CheckpointError naming what is wrong with it."""
        found = self.shape(name)
        folder, stored = self.tensors[name]
        dtype = folder[stored].dtype
        where = f"{folder.path}: {stored}"
        # A patch convolution (C, 3, P, P) is read as the linear it is; a 1x1 convolution may be stored as a linear.
        if found != shape and (found[:1] != shape[:1] or int(np.prod(found)) != int(np.prod(shape))):
            raise CheckpointError(f"{where}: expected the shape {shape}, got {found}")
        if dtype not in ("F32", "F16", "BF16"):
            raise CheckpointError(f"{where}: expected F32, F16 or BF16 (a float checkpoint), got {dtype}")
        values = folder.array(stored).reshape(shape)
        part = np.ascontiguousarray(widen(values[begin:end] if shape else values, dtype))
        if not np.isfinite(part).all():
            raise CheckpointError(f"{where}: expected finite values, it has NaN or infinity")
        return part.reshape(part.shape if shape else ())

    def release(self) -> None:
        """Let go of the memory of what has been read."""
        for folder in {id(f): f for f, _ in self.tensors.values()}.values():
            folder.release()


def whole_folder(path: Path) -> FloatSource:
    """A HyperVL float checkpoint (docs/checkpoint.md)."""
    values = read_json(path / "config.json")
    config = Config.from_dict(values)
    if config.quantization_config is not None:
        raise CheckpointError(f"{path}: expected a float checkpoint, got one that is packed already")
    folder = SafetensorsFolder(path)
    tensors = {name: (folder, name) for name in folder if not name.startswith("model.vrc.")}
    tensors |= vrc_tensors(folder)
    return FloatSource(config, tensors, path, _generation_config(path), _template(path))


@dataclass(frozen=True)
class Parts:
    """Folders of published models that together make a HyperVL."""

    llm: Path
    vision: Mapping[str, Path]  # by branch
    projectors: Mapping[str, Path]
    vrc: Path | None
    tokenizer: Path | None
    default_branch: str | None
    tile_size: int | None
    pixel_shuffle: int
    projector_act: str


def from_parts(parts: Parts) -> FloatSource:
    """Qwen3, SigLIP2 towers, projectors, a VRC. CheckpointError or FileNotFoundError naming what does not fit."""
    if set(parts.vision) != set(parts.projectors) or not parts.vision:
        raise ValueError(
            f"expected one projector for each vision branch {list(parts.vision)}, got {list(parts.projectors)}"
        )
    tensors: dict[str, tuple[SafetensorsFolder, str]] = {}
    text = _model_config(parts.llm, "qwen3", "Qwen3")
    llm = SafetensorsFolder(parts.llm)
    for name in llm:
        tensors["model.language_model." + name.removeprefix("model.") if name != "lm_head.weight" else name] = (
            llm,
            name,
        )
    vision_configs, projector_configs = {}, {}
    for branch, path in parts.vision.items():
        vision_configs[branch] = _siglip(branch, path, tensors)
        hidden = _projector(branch, parts.projectors[branch], tensors)
        projector_configs[branch] = {"hidden_size": hidden, "hidden_act": parts.projector_act}
    tokenizer = parts.tokenizer or parts.llm
    unit = next(iter(vision_configs.values())).get("image_size", 224)
    values: dict[str, Any] = {
        "model_type": "hypervl",
        "text_config": text,
        "vision_configs": vision_configs,
        "default_branch": parts.default_branch or next(iter(vision_configs)),
        "projector_configs": projector_configs,
        "preprocessor": {},
        "tiling": {"tile_size": parts.tile_size or unit, "pixel_shuffle": parts.pixel_shuffle},
        "vrc_config": None,
        **_special_ids(tokenizer),
    }
    eps = 1e-5
    if parts.vrc is not None:
        vrc = read_json(parts.vrc / "config.json")
        if not isinstance(vrc, dict):
            raise CheckpointError(f"{parts.vrc}/config.json: expected a JSON object, got {type(vrc).__name__}")
        values["vrc_config"] = vrc.get("vrc_config", vrc)
        eps = float(vrc.get("layer_norm_eps", eps))
        tensors |= vrc_tensors(SafetensorsFolder(parts.vrc))
    config = Config.from_dict(values)
    # A text model's own template knows no images, so the result gets ours.
    return FloatSource(config, tensors, tokenizer, _generation_config(parts.llm), batch_norm_eps=eps)


def _model_config(path: Path, model_type: str, called: str) -> dict[str, Any]:
    values = read_json(path / "config.json")
    if not isinstance(values, dict) or values.get("model_type") != model_type:
        got = values.get("model_type") if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(f"{path}/config.json: expected model_type {model_type!r} ({called}), got {got!r}")
    return values


def _siglip(branch: str, path: Path, tensors: dict[str, tuple[SafetensorsFolder, str]]) -> dict[str, Any]:
    """Adds a tower's tensors; returns its config. The attention-pooling head and the text tower are left out."""
    values = read_json(path / "config.json")
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind == "siglip":
        values, kind = values.get("vision_config", {}), "siglip_vision_model"
    if kind != "siglip_vision_model" or not isinstance(values, dict):
        raise CheckpointError(
            f"{path}/config.json: expected model_type 'siglip' or 'siglip_vision_model', got {kind!r}"
        )
    folder = SafetensorsFolder(path)
    for name in folder:
        inner = name.removeprefix("vision_model.")
        if inner.startswith(("embeddings.", "encoder.", "post_layernorm.")):
            tensors[f"model.vision_tower.{branch}.{inner}"] = (folder, name)
    return values


def _projector(branch: str, path: Path, tensors: dict[str, tuple[SafetensorsFolder, str]]) -> int:
    """Adds a projector's two linears, however they are prefixed; returns the width between them."""
    folder = SafetensorsFolder(path)
    hidden = 0
    for wanted in ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"):
        found = [n for n in folder if n == wanted or n.endswith("." + wanted)]
        found = [n for n in found if f".{branch}." in f".{n}"] or found
        if len(found) != 1:
            raise CheckpointError(f"{path}: expected one tensor {wanted} for branch {branch!r}, got {len(found)}")
        tensors[f"model.projector.{branch}.{wanted}"] = (folder, found[0])
        if wanted == "linear_1.weight":
            hidden = folder[found[0]].shape[0]
    return hidden


def _special_ids(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the tokenizer, there is no such file")
    tokenizer = Tokenizer.from_file(str(path))
    ids = {}
    for key, token in SPECIAL_TOKENS.items():
        number = tokenizer.token_to_id(token)
        if number is None:
            raise CheckpointError(f"{path}: expected a token {token} for {key}, there is none")
        ids[key] = int(number)
    return ids


def _generation_config(path: Path) -> dict[str, Any]:
    file = path / "generation_config.json"
    values = read_json(file) if file.is_file() else {}
    return values if isinstance(values, dict) else {}


def _template(path: Path) -> str | None:
    file, old = path / "chat_template.jinja", path / "tokenizer_config.json"
    if file.is_file():
        return file.read_text("utf-8")
    value = json.loads(old.read_text("utf-8")).get("chat_template") if old.is_file() else None
    return value if isinstance(value, str) else None

"""A small checkpoint, what tests do to it, and its packed weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypervl_engine import _core
from hypervl_engine.checkpoint import open_checkpoint
from hypervl_engine.convert import convert_random
from hypervl_engine.safetensors import SafetensorsFile, SafetensorsWriter

Q_PROJ = "model.language_model.layers.0.self_attn.q_proj.weight"
NORM = "model.language_model.norm.weight"


def write_tiny(folder: Path) -> Path:
    """One layer of everything."""
    convert_random("tiny", folder, layers=1, progress=False)
    return folder


def edit(folder: Path, change: Callable[[dict[str, tuple[str, np.ndarray[Any, Any]]]], None]) -> None:
    """Rewrite model.safetensors with `change` applied to {name: (dtype, values)}."""
    path = folder / "model.safetensors"
    file = SafetensorsFile(path)
    tensors = {name: (info.dtype, file.array(name).copy()) for name, info in file.tensors.items()}
    change(tensors)
    path.unlink()
    with SafetensorsWriter(path, {name: (dtype, values.shape) for name, (dtype, values) in tensors.items()}) as writer:
        for name, (_, values) in tensors.items():
            writer.write(name, values)


def same_weights(a: _core.WeightStore, b: _core.WeightStore) -> bool:
    def read(store: _core.WeightStore, name: str) -> np.ndarray[Any, Any]:
        return store.dequantize(name) if store.info(name)["dtype"] == "linear" else store.array(name)

    return a.names() == b.names() and all(np.array_equal(read(a, n), read(b, n)) for n in a.names())


def packed(folder: Path, cache: Path, verify: bool = False) -> _core.WeightStore:
    return open_checkpoint(folder).open_weights(cache_dir=cache, min_cache_bytes=0, progress=False, verify=verify)


def cache_file(cache: Path) -> Path:
    (path,) = cache.glob("*.hvlpack")
    return path

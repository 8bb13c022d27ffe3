"""Errors of random full-width layers in integers ("hexagon-ref") and on the CPU, beside float32 code that is not ours.

    python -m tools.integer_error [--layers 1]

Random weights with outlier channels (tools/reference.py) of the published widths: blocks of the ViT-Large tower (W8A16) on one tile of 256
patches against transformers' SiglipVisionModel, and layers of Qwen3-1.7B (W4A16) on 256 tokens against its Qwen3ForCausalLM, both on the
dequantised weights. Printed: the median and the largest relative L2 error of a token's features, or of a position's logits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypervl_engine.convert.random_model import PRESETS
from hypervl_engine.engine import load
from numpy.typing import NDArray

from tools.reference import qwen3, relative_l2, siglip, write_random

SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {},
    "cpu, KV 8": {"kv_bits": 8},
    "hexagon-ref": {"device": "hexagon-ref"},
    "cpu, A8, KV 8": {"activation_bits": 8, "kv_bits": 8},
    "hexagon-ref, A8": {"device": "hexagon-ref", "activation_bits": 8},
}
TOKENS, VOCABULARY = 256, 8192


def print_errors(what: str, setting: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    errors = relative_l2(ours, theirs)
    print(f"| {what} | {setting} | {np.median(errors):.2e} | {errors.max():.2e} |", flush=True)


def tower(folder: Path, layers: int) -> None:
    """Blocks of the large tower on a tile of 256 patches of a picture with structure and noise."""
    published = PRESETS["hypervl-1.8b"]
    large = {**published["vision_configs"]["large"], "num_hidden_layers": layers}
    one = {**published, "vision_configs": {"large": large}, "projector_configs": {"large": {"hidden_size": 256}}, "vrc_config": None}
    with mock.patch.dict(PRESETS, {"large layers": one}):
        write_random(folder, vision="large layers")
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (32, 32, 3)).repeat(8, 0).repeat(8, 1) + rng.integers(-20, 21, (256, 256, 3))
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    with torch.no_grad():
        theirs = siglip(folder, "large")(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1.0).last_hidden_state[0].numpy()
    for name, options in SETTINGS.items():
        (ours,) = load(folder, context_length=64, progress=False, **options).new_session().encode_tower(rgb, 1.0, "large")
        print_errors(f"ViT-Large, {layers} block(s), tile of 256", name, ours, theirs)


def text(folder: Path, layers: int) -> None:
    """Layers of Qwen3-1.7B and its head, with a smaller vocabulary."""
    write_random(folder, text={"num_hidden_layers": layers, "vocab_size": VOCABULARY, "eos_token_id": 8100, "bos_token_id": 8101})
    ids = np.random.default_rng(0).integers(0, 8000, TOKENS).astype(np.int32)
    with torch.no_grad():
        theirs = qwen3(folder)(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    for name, options in SETTINGS.items():
        ours = load(folder, context_length=2 * TOKENS, progress=False, **options).new_session().prefill(ids, logits=True)
        assert ours is not None
        print_errors(f"Qwen3-1.7B, {layers} layer(s), {TOKENS} tokens, logits", name, ours, theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1, help="of each (default 1)")
    options = parser.parse_args()
    print("| what | setting | median error | largest error |\n| --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        tower(Path(folder) / "tower", options.layers)
        text(Path(folder) / "text", options.layers)


if __name__ == "__main__":
    main()

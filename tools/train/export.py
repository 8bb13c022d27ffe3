"""Write the trained model as a float checkpoint in Hugging Face layout (docs/checkpoint.md), ready for `convert`.

With --snap the weights written already lie on the packed grid (groups of 32, scale = largest / 7 or / 127 rounded to
float16), as F32, so that conversion finds the same integers again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.train import tokenizer
from tools.train.model import HyperVL, ModelConfig, PatchEmbedding, QLinear, fake_quantize
from tools.train.vrc import Vrc, VrcConfig


def config_json(config: ModelConfig, vrc: VrcConfig | None) -> dict[str, Any]:
    """The contents of config.json."""
    tok = tokenizer.build()
    ids = {name: tok.token_to_id(name) for name in tokenizer.SPECIALS}
    text = {"model_type": "qwen3", **asdict(config.text), "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": ids["<|endoftext|>"]}
    return {
        "model_type": "hypervl", "architectures": ["HyperVLForConditionalGeneration"], "text_config": text,
        "vision_configs": {n: {"model_type": "siglip_vision_model", **asdict(c)} for n, c in config.vision.items()},
        "default_branch": "large",
        "projector_configs": {n: {"hidden_size": h, "hidden_act": "gelu"} for n, h in config.projector_hidden.items()},
        "preprocessor": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": "bicubic", "pad_value": 0.0,
                         "pad_stage": "normalized"},
        "tiling": {"tile_size": config.tile_size, "pixel_shuffle": config.pixel_shuffle, "edge_tiles": "crop",
                   "edge_positions": "crop", "use_thumbnail": False, "thumbnail_position": "last",
                   "token_order": "tile", "tile_separator_id": ids["<|tile|>"], "row_separator_id": ids["<|row|>"],
                   "thumbnail_separator_id": None},
        "vrc_config": asdict(vrc) if vrc else None,
        "image_token_id": ids["<|image_pad|>"], "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def tensors(model: HyperVL, vrc: Vrc | None, snap: bool) -> dict[str, Tensor]:
    """All tensors by their checkpoint names."""
    out: dict[str, Tensor] = {}
    bits = {f"{n}.weight": m.bits for n, m in model.named_modules() if isinstance(m, QLinear)}
    bits["language_model.embed_tokens.weight"] = 4
    patch = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, PatchEmbedding)}
    for name, value in model.state_dict().items():
        value = value.detach().float()
        if snap and name in bits:
            value = fake_quantize(value, bits[name])
        if name in patch:
            side = int((value.shape[1] // 3) ** 0.5)
            value = value.view(value.shape[0], 3, side, side)
        out[f"model.{name}"] = value.contiguous().clone()
    if vrc is not None:
        out |= {f"model.vrc.{k}": v.detach().float().contiguous().clone() for k, v in vrc.state_dict().items()
                if "num_batches" not in k}
    return out


def write(folder: Path, model: HyperVL, vrc: Vrc | None, snap: bool) -> None:
    """Write the checkpoint, replacing the folder's contents at the end."""
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    tokenizer.write(temporary)
    config = config_json(model.config, vrc.config if vrc else None)
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    eos = [config["text_config"]["eos_token_id"], config["text_config"]["bos_token_id"]]
    (temporary / "generation_config.json").write_text(
        json.dumps({"eos_token_id": eos, "do_sample": False, "max_new_tokens": 32}, indent=2) + "\n")
    save_file(tensors(model, vrc, snap), str(temporary / "model.safetensors"), metadata={"format": "pt"})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def load_vrc(path: Path) -> Vrc | None:
    """The trained VRC, folded and quantised, or None."""
    if not path.exists():
        return None
    vrc = Vrc(VrcConfig())
    vrc.calibrate([])
    vrc.load_state_dict(torch.load(path, weights_only=True))
    return vrc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=os.environ.get("HVL_TRAIN_DIR", "train-out"))
    parser.add_argument("--out", required=True)
    parser.add_argument("--untrained", action="store_true", help="random weights, for testing the format")
    parser.add_argument("--snap", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    model, vrc = HyperVL(ModelConfig()), load_vrc(Path(args.dir) / "vrc.pt")
    if not args.untrained:
        model.load_state_dict(torch.load(Path(args.dir) / "state.pt", weights_only=False)["model"])
    if vrc is None:
        vrc = Vrc(VrcConfig())
        vrc.calibrate([(torch.rand(4, 3, 96, 96) * 2 - 1, torch.full((4, 2), 128.0))])
        vrc.fc2.bias.data.fill_(1.0)  # untrained: stays near full resolution
    write(Path(args.out), model, vrc, args.snap)


if __name__ == "__main__":
    main()

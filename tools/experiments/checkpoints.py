"""Checkpoints with random weights that the experiments measure with; made once in a folder of the caller's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypervl_engine.config import Config
from hypervl_engine.convert import convert_random
from hypervl_engine.convert.synthetic_tokenizer import special_ids

_PRESET = "hypervl-1.8b"
_VOCABULARY = 512


def full_checkpoint(folder: Path, *, layers: int | None = None) -> Path:
    """The published shape with all its parts; `layers` cuts every stack."""
    return _made(folder / (_PRESET if layers is None else f"{_PRESET}-{layers}-layers"), layers, None)


def tower_checkpoint(folder: Path, branch: str) -> Path:
    """One vision branch of the published shape with its projector; the language model has one layer and 512 tokens.

    So memory compares with that of engines which load a vision tower and nothing else.
    """
    return _made(folder / f"{_PRESET}-{branch}-tower", None, branch)


def _made(path: Path, layers: int | None, branch: str | None) -> Path:
    if not (path / "config.json").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        convert_random(_PRESET, path, layers=layers, adjust=None if branch is None else lambda config: _tower(config, branch))
    return path


def _tower(config: Config, branch: str) -> Config:
    ids = special_ids(_VOCABULARY)
    text = dataclasses.replace(
        config.text_config,
        vocab_size=_VOCABULARY,
        num_hidden_layers=1,
        eos_token_id=(ids["<|im_end|>"],),
        bos_token_id=ids["<|endoftext|>"],
    )
    return dataclasses.replace(
        config,
        text_config=text,
        vision_configs={branch: config.vision_configs[branch]},
        projector_configs={branch: config.projector_configs[branch]},
        default_branch=branch,
        vrc_config=None,
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )

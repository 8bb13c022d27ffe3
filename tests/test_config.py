"""config.json: what is accepted, and that every error names the key, what was expected and what came."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypervl_engine.config import Config
from hypervl_engine.convert import packing
from hypervl_engine.convert.random_model import PRESETS, preset_config
from hypervl_engine.errors import CheckpointError
from hypervl_engine.tensors import expected_tensors
from hypothesis import given, settings
from hypothesis import strategies as st


def tiny() -> dict[str, Any]:
    return copy.deepcopy(preset_config("tiny", None).to_dict())


def put(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    inner = values
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return values


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trip(preset: str) -> None:
    config = preset_config(preset, None)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


BAD = {
    "model_type": "llava",
    "text_config": [],
    "text_config.vocab_size": 0,
    "text_config.hidden_size": "128",
    "text_config.num_hidden_layers": 10**9,
    "text_config.num_attention_heads": True,
    "text_config.num_key_value_heads": 3,
    "text_config.head_dim": 33,
    "text_config.rms_norm_eps": float("nan"),
    "text_config.rope_theta": -1.0,
    "text_config.rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    "text_config.attention_bias": True,
    "text_config.tie_word_embeddings": "yes",
    "text_config.hidden_act": "gelu",
    "text_config.eos_token_id": [1, 512],
    "text_config.bos_token_id": -1,
    "vision_configs": {},
    "vision_configs.base.hidden_size": 10**400,
    "vision_configs.base.num_attention_heads": 5,
    "vision_configs.base.patch_size": 65,
    "vision_configs.base.hidden_act": "swiglu",
    "vision_configs.base.num_channels": 4,
    "vision_configs.large.layer_norm_eps": 2.0,
    "default_branch": "huge",
    "projector_configs.extra": {"hidden_size": 8},
    "projector_configs.base.hidden_size": None,
    "projector_configs.base.activation": "gelu",
    "preprocessor.image_mean": [0.5, 0.5],
    "preprocessor.image_std": [0.5, 0.0, 0.5],
    "preprocessor.resample": "lanczos",
    "preprocessor.pad_value": float("inf"),
    "preprocessor.pad_stage": "later",
    "tiling.tile_size": 72,
    "tiling.pixel_shuffle": 0,
    "tiling.edge_tiles": "pad",
    "tiling.token_order": "spiral",
    "tiling.tile_seperator_id": 5,
    "tiling.row_separator_id": 512,
    "vrc_config.grid": [0.5, 0.5],
    "vrc_config.blocks": [[1, 8, 1]],
    "vrc_config.image_size": 1.5,
    "vrc_config.size_norm": 0,
    "image_token_id": 600,
    "vision_start_token_id": None,
}


@pytest.mark.parametrize("path", BAD)
def test_errors_name_the_key(path: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected .*, got ") as caught:
        Config.from_dict(put(tiny(), path, BAD[path]))
    assert path.split(".")[-1] in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("missing", ["text_config", "vision_configs", "projector_configs", "tiling", "image_token_id"])
def test_missing_keys(missing: str) -> None:
    values = tiny()
    del values[missing]
    with pytest.raises(CheckpointError, match=missing):
        Config.from_dict(values)


def test_raster_order_has_no_tile_separator() -> None:
    values = put(put(tiny(), "tiling.token_order", "raster"), "tiling.tile_separator_id", 3)
    with pytest.raises(CheckpointError, match="tile_separator_id"):
        Config.from_dict(values)


def test_unknown_keys_of_hugging_face_configs_are_ignored() -> None:
    values = put(put(tiny(), "text_config.torch_dtype", "bfloat16"), "vision_configs.base.attention_dropout", 0.0)
    assert Config.from_dict({**values, "transformers_version": "5.0"}) == preset_config("tiny", None)


def test_rope_parameters() -> None:
    values = tiny()
    del values["text_config"]["rope_theta"]
    values["text_config"]["rope_parameters"] = {"rope_theta": 5e6, "rope_type": "default"}
    assert Config.from_dict(values).text_config.rope_theta == 5e6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = [
    "text_config",
    "vision_configs",
    "vision_configs.base",
    "tiling",
    "vrc_config",
    "vrc_config.blocks",
    "quantization_config",
    *BAD,
]


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(KEYS), value=JSON)
def test_any_value_anywhere_is_accepted_or_a_checkpoint_error(path: str, value: Any) -> None:
    with contextlib.suppress(CheckpointError):
        Config.from_dict(put(tiny(), path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"model_type": "hypervl"}', "\x00"])
def test_files_that_are_not_configs(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Config.load(tmp_path)


def quantization(**weights: Any) -> dict[str, Any]:
    group = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32, **weights}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": group}},
        "ignore": [],
    }


@pytest.mark.parametrize(
    "weights",
    [
        {"num_bits": 3},
        {"type": "float"},
        {"strategy": "tensor"},
        {"group_size": 48},
        {"group_size": None},
        {"actorder": "group"},
    ],
)
def test_quantization_that_is_not_supported(weights: dict[str, Any]) -> None:
    key = next(iter(weights))
    with pytest.raises(CheckpointError, match=rf"config_groups\.group_0\.weights\.{key}"):
        Config.from_dict({**tiny(), "quantization_config": quantization(**weights)})


def test_targets() -> None:
    values = {**tiny(), "quantization_config": quantization()}
    specs = expected_tensors(Config.from_dict(values))
    assert {s.bits for s in specs.values() if s.kind == "linear"} == {4}
    values["quantization_config"]["config_groups"]["group_1"] = {
        "targets": ["re:.*vision_tower.*"],
        "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
    }
    specs = expected_tensors(Config.from_dict(values))
    assert specs["model.vision_tower.base.encoder.layers.1.mlp.fc1.weight"].bits == 8
    assert specs["model.vision_tower.base.encoder.layers.1.mlp.fc1.weight"].groups == 1
    values["quantization_config"]["ignore"] = ["model.projector.base.linear_1"]
    with pytest.raises(CheckpointError, match=r"model\.projector\.base\.linear_1"):
        expected_tensors(Config.from_dict(values))


def test_groups_must_divide_and_agree() -> None:
    values = {**tiny(), "quantization_config": quantization(group_size=128)}
    with pytest.raises(CheckpointError, match="64 columns"):
        expected_tensors(Config.from_dict(values))
    values = {**tiny(), "quantization_config": quantization()}
    values["quantization_config"]["config_groups"]["group_1"] = {
        "targets": ["re:.*language_model.*layers.1.*k_proj"],
        "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64},
    }
    with pytest.raises(CheckpointError, match="same groups"):
        expected_tensors(Config.from_dict(values))


def test_bad_pattern() -> None:
    values = {**tiny(), "quantization_config": {**quantization(), "ignore": ["re:("]}}
    with pytest.raises(CheckpointError, match="regular expression"):
        Config.from_dict(values)


def test_float_checkpoint_says_convert() -> None:
    with pytest.raises(CheckpointError, match="hypervl-engine convert"):
        expected_tensors(preset_config("tiny", None))


def test_so400m_columns() -> None:
    """8-bit weights have one scale a row, which memory repeats for groups that pad the columns least."""
    values = tiny()
    values["vision_configs"]["base"] |= {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
    config = Config.from_dict(values)
    plan = packing.plan(config, 128)
    at = "model.vision_tower.base.encoder.layers.0."
    assert plan.scheme(at + "self_attn.q_proj", "Linear").group_size == 0
    specs = expected_tensors(dataclasses.replace(config, quantization_config=plan))
    assert specs[at + "mlp.fc1.weight"].engine_group == 384
    assert specs[at + "mlp.fc2.weight"].engine_group == 256
    assert specs["model.vision_tower.large.encoder.layers.0.mlp.fc1.weight"].engine_group == 128
    assert specs["lm_head.weight" if "lm_head.weight" in specs else "model.language_model.embed_tokens.weight"].engine_group == 128

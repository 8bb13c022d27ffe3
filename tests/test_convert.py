"""convert: Hugging Face folders and float checkpoints to packed ones, and their equality with compressed-tensors."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypervl_engine import _core, convert
from hypervl_engine.checkpoint import open_checkpoint
from hypervl_engine.config import Config
from hypervl_engine.convert import packing, random_model, synthetic_tokenizer, vrc
from hypervl_engine.convert.sources import FloatSource
from hypervl_engine.errors import CheckpointError
from hypervl_engine.safetensors import SafetensorsFile, SafetensorsFolder, SafetensorsWriter
from hypervl_engine.tensors import array_shapes, expected_tensors, linear_shapes, vrc_layers
from hypothesis import given, settings
from hypothesis import strategies as st

Converted = tuple[Path, dict[str, np.ndarray[Any, Any]], convert.Summary]


def float_tensors(config: Config, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, (rows, cols) in linear_shapes(config):
        tensors[name] = (rng.normal(0, cols**-0.5, (rows, cols))).astype(np.float32)
    for name, shape in array_shapes(config):
        tensors[name] = rng.normal(1.0, 0.2, shape).astype(np.float32)
    for branch, vision in config.vision_configs.items():
        name = f"model.vision_tower.{branch}.embeddings.patch_embedding.weight"
        tensors[name] = tensors[name].reshape(-1, 3, vision.patch_size, vision.patch_size)
    if config.vrc_config is not None:
        for layer in vrc_layers(config.vrc_config):
            fan_in = int(np.prod(layer.shape[1:]))
            tensors[f"{layer.name}.weight"] = rng.normal(0, fan_in**-0.5, layer.shape).astype(np.float32)
            tensors[f"{layer.name}.bias"] = rng.normal(0, 0.2, layer.shape[:1]).astype(np.float32)
    return tensors


def save(path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    path.unlink(missing_ok=True)
    with SafetensorsWriter(path, {name: ("F32", values.shape) for name, values in tensors.items()}) as writer:
        for name, values in tensors.items():
            writer.write(name, values)


def float_folder(folder: Path, config: Config) -> dict[str, np.ndarray[Any, Any]]:
    folder.mkdir()
    tensors = float_tensors(config)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    (folder / "chat_template.jinja").write_text("the template")
    synthetic_tokenizer.write(folder, config.text_config.vocab_size)
    save(folder / "model.safetensors", tensors)
    return tensors


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A packed checkpoint with groups and a channel-wise linear, the floats it was made from, and the summary."""
    base = tmp_path_factory.mktemp("convert")
    values = random_model.preset_config("tiny", 2).to_dict()
    values["vision_configs"]["base"]["intermediate_size"] = 200  # no group divides it
    values["text_config"]["tie_word_embeddings"] = False
    tensors = float_folder(base / "float", Config.from_dict(values))
    summary = convert.convert_folder(base / "float", base / "packed", progress=False)
    return base / "packed", tensors, summary


def test_weights_stay_close(converted: Converted) -> None:
    folder, tensors, summary = converted
    checkpoint = open_checkpoint(folder)
    store = checkpoint.open_weights()
    for name, spec in expected_tensors(checkpoint.parsed_config).items():
        if spec.kind == "linear":
            weight = tensors[name].reshape(spec.shape)
            error = np.linalg.norm(store.dequantize(name) - weight) / np.linalg.norm(weight)
            assert error < (0.13 if spec.bits == 4 else 0.02), name
        elif not name.startswith("model.vrc."):
            np.testing.assert_array_equal(store.array(name), tensors[name])
    assert {"language_model.layers", "language_model.embed_tokens", "lm_head", "vision_tower.base"} <= set(
        summary.errors
    )
    assert all(0 < error < 0.13 for error in summary.errors.values())
    assert str(folder) in str(summary)


def test_bits_and_groups(converted: Converted) -> None:
    specs = expected_tensors(open_checkpoint(converted[0]).parsed_config)
    layers = "encoder.layers.1.mlp."
    assert (specs["lm_head.weight"].bits, specs["lm_head.weight"].group_size) == (4, 128)
    assert specs["model.language_model.layers.1.mlp.down_proj.weight"].bits == 4
    assert specs["model.vision_tower.base." + layers + "fc1.weight"].group_size == 0
    assert specs["model.vision_tower.large." + layers + "fc2.weight"].group_size == 0
    assert specs["model.projector.base.linear_1.weight"].bits == 8


def test_other_files(converted: Converted) -> None:
    folder = converted[0]
    assert (folder / "chat_template.jinja").read_text() == "the template"
    assert open_checkpoint(folder).generation_config == {"temperature": 0.5}
    assert (folder / "tokenizer.json").is_file()
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_compressed_tensors_agrees_to_the_last_bit(
    converted: Converted,
) -> None:
    """Their config takes ours, names the same scheme for every linear, and unpacks what we compute with."""
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_name

    folder = converted[0]
    checkpoint = open_checkpoint(folder)
    store = checkpoint.open_weights()
    theirs = QuantizationConfig(**json.loads((folder / "config.json").read_text())["quantization_config"])
    file = SafetensorsFolder(folder)
    seen = set()
    for name, spec in expected_tensors(checkpoint.parsed_config).items():
        if spec.kind != "linear":
            continue
        module = name.removesuffix(".weight")
        schemes = [s for s in theirs.config_groups.values() if any(match_name(module, t) for t in s.targets)]
        assert len(schemes) == 1, module
        weights = schemes[0].weights
        assert (weights.num_bits, weights.group_size or 0) == (spec.bits, spec.group_size)
        packed = {
            f"weight_{part}": torch.from_numpy(file.array(f"{name}_{part}").copy())
            for part in ("packed", "scale", "shape")
        }
        unpacked = PackedQuantizationCompressor.decompress(packed, schemes[0])["weight"]
        assert unpacked.dtype == torch.float32
        ours = store.dequantize(name)
        np.testing.assert_array_equal(ours.view(np.uint32) & 0x7FFFFFFF, unpacked.numpy().view(np.uint32) & 0x7FFFFFFF)
        np.testing.assert_array_equal(ours, unpacked.numpy())
        seen.add((spec.bits, spec.group_size))
    assert seen == {(4, 128), (8, 0)}


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 300), bits=st.sampled_from([4, 8]), seed=st.integers(0, 1000))
def test_words_are_compressed_tensors_words(rows: int, columns: int, bits: int, seed: int) -> None:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    high = 2 ** (bits - 1)
    q = np.random.default_rng(seed).integers(-high, high, (rows, columns)).astype(np.int8)
    np.testing.assert_array_equal(packing.pack_words(q, bits), pack_to_int32(torch.from_numpy(q), bits).numpy())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 20),
    groups=st.integers(1, 5),
    group=st.sampled_from([1, 7, 32, 64, 128, 4304]),
    bits=st.sampled_from([4, 8]),
    magnitude=st.sampled_from([1e-9, 1e-4, 1.0, 1e5]),
    seed=st.integers(0, 1000),
)
def test_quantize_groups(rows: int, groups: int, group: int, bits: int, magnitude: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_t(3, (rows, groups * group)) * magnitude).astype(np.float32)
    weight[0, :group] = 0
    high = 2.0 ** (bits - 1)

    def error(search: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        q, scales = _core.quantize_groups(weight, bits, group, search)
        assert q.shape == weight.shape
        assert scales.shape == (rows, groups)
        assert (scales > 0).all()
        np.testing.assert_array_equal(scales.astype(np.float16).astype(np.float32), scales)
        wide = weight.astype(np.float64).reshape(rows, groups, group)
        s = scales.astype(np.float64)[:, :, None]
        grid = q.reshape(wide.shape)
        # Each integer is the nearest one in range (up to float rounding of the quotient).
        best = np.clip(wide / s, -high, high - 1)
        assert (np.abs(grid - best) <= 0.5 + 1e-4 * np.maximum(1, np.abs(best))).all()
        return ((grid * s - wide) ** 2).sum(-1), s[:, :, 0]

    plain, scale = error(False)
    searched, _ = error(True)
    assert (searched <= plain * (1 + 1e-4) + 1e-30).all()
    top = np.abs(weight.reshape(rows, groups, group)).max(-1)
    in_range = (top / (high - 1) > 2.0**-14) & (top / (high - 1) < 60000)
    np.testing.assert_allclose(scale[in_range], (top / (high - 1))[in_range], rtol=2**-11 * 1.01)


def test_quantize_groups_refuses() -> None:
    weight = np.zeros((2, 64), np.float32)
    for bad in (np.float32(np.nan), np.float32(np.inf)):
        weight[1, 3] = bad
        with pytest.raises(ValueError, match="row 1"):
            _core.quantize_groups(weight, 4, 32, True)
    weight[1, 3] = 0
    for bits, group in ((5, 32), (4, 48), (4, 0), (4, -1)):
        with pytest.raises(ValueError):
            _core.quantize_groups(weight, bits, group, True)
    with pytest.raises(ValueError):
        _core.quantize_groups(weight.astype(np.float64), 4, 32, True)
    with pytest.raises(ValueError):
        _core.quantize_groups(weight[:, ::2], 4, 32, True)


def test_weights_on_the_grid_are_found_again() -> None:
    """What training snapped (scale: largest / 7 rounded to F16) converts without loss."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, (64, 192)).astype(np.float32)
    for bits, top in ((4, 7), (8, 127)):
        groups = weight.reshape(64, -1, 32)
        scale = (np.abs(groups).max(-1, keepdims=True) / top).astype(np.float16).astype(np.float32)
        snapped = (np.clip(np.rint(groups / scale), -top - 1, top) * scale).astype(np.float32).reshape(64, 192)
        q, scales = _core.quantize_groups(snapped, bits, 32, True)
        np.testing.assert_array_equal((q.reshape(64, -1, 32) * scales[:, :, None]).reshape(64, 192), snapped)


# Published parts.


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """As transformers saves them: Qwen3 (bf16, sharded), SiglipModel (F16), SiglipVisionModel (F32); projectors."""
    from safetensors.torch import save_file
    from transformers import (
        Qwen3Config,
        Qwen3ForCausalLM,
        SiglipConfig,
        SiglipModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(0)
    base = tmp_path_factory.mktemp("parts")
    text = Qwen3Config(
        vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    llm = Qwen3ForCausalLM(text).bfloat16()
    llm.save_pretrained(base / "llm", max_shard_size="200KB")
    synthetic_tokenizer.write(base / "llm", 512)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}
    small = {**sizes, "num_hidden_layers": 2, "image_size": 64}
    whole = SiglipModel(
        SiglipConfig(
            text_config={**sizes, "num_hidden_layers": 1, "vocab_size": 40},
            vision_config=small,
        )
    )  # fmt: skip
    whole.half().save_pretrained(base / "base")
    tower = SiglipVisionModel(SiglipVisionConfig(**{**small, "hidden_size": 96, "num_attention_heads": 3}))
    tower.save_pretrained(base / "large")
    for branch, width, prefix in (("base", 64, "multi_modal_projector."), ("large", 96, "")):
        (base / f"projector-{branch}").mkdir()
        shapes = {"linear_1.weight": (80, width * 4), "linear_2.weight": (128, 80)}
        shapes |= {"linear_1.bias": (80,), "linear_2.bias": (128,)}
        values = {prefix + name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}
        save_file(values, str(base / f"projector-{branch}" / "model.safetensors"))
    return base, llm, tower


def arguments(base: Path, output: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    vision = [f"--vision={b}={base / b}" for b in ("base", "large")]
    projectors = [
        f"--projector=base={base / 'projector-base' / 'model.safetensors'}",
        f"--projector=large={base / 'projector-large'}",
    ]
    return parser.parse_args([str(output), f"--llm={base / 'llm'}", *vision, *projectors, "--quiet", *more])


def test_parts(parts: tuple[Path, Any, Any], tmp_path: Path) -> None:
    base, llm, tower = parts
    assert convert.run(arguments(base, tmp_path / "out", "--default-branch=large", "--group-size=32")) == 0
    checkpoint = open_checkpoint(tmp_path / "out")
    store = checkpoint.open_weights()
    assert checkpoint.config["default_branch"] == "large"
    assert checkpoint.config["tiling"]["tile_size"] == 64
    assert checkpoint.config["vision_configs"]["base"]["patch_size"] == 16
    assert checkpoint.config["projector_configs"]["base"]["hidden_size"] == 80
    assert checkpoint.config["image_token_id"] == synthetic_tokenizer.special_ids(512)["<|image_pad|>"]
    state = llm.state_dict()
    norm = "model.layers.1.self_attn.q_norm.weight"
    np.testing.assert_array_equal(
        store.array(norm.replace("model.", "model.language_model.", 1)), state[norm].float().numpy()
    )
    embedding = state["model.embed_tokens.weight"].float().numpy()
    error = store.dequantize("model.language_model.embed_tokens.weight") - embedding
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(embedding)
    weight = next(v for k, v in tower.state_dict().items() if k.endswith("encoder.layers.1.mlp.fc2.weight")).numpy()
    packed = store.dequantize("model.vision_tower.large.encoder.layers.1.mlp.fc2.weight")
    assert np.linalg.norm(packed - weight) < 0.01 * np.linalg.norm(weight)


def test_parts_that_do_not_fit(parts: tuple[Path, Any, Any], tmp_path: Path) -> None:
    base, _, _ = parts
    options = arguments(base, tmp_path / "out")
    options.vision = options.vision[:1]
    with pytest.raises(ValueError, match="one projector for each"):
        convert.run(options)
    options = arguments(base, tmp_path / "out")
    options.llm = base / "base"
    with pytest.raises(CheckpointError, match="Qwen3"):
        convert.run(options)
    options = arguments(base, tmp_path / "out")
    options.projector[1] = options.projector[0].replace("base=", "large=", 1)
    with pytest.raises(CheckpointError, match="expected the shape"):
        convert.run(options)
    options = arguments(base, tmp_path / "out")
    options.vision[0] = f"base={base / 'llm'}"
    with pytest.raises(CheckpointError, match="siglip"):
        convert.run(options)
    options = arguments(base, tmp_path / "out")
    options.random = "tiny"
    with pytest.raises(ValueError, match="one of --from"):
        convert.run(options)
    with pytest.raises(ValueError, match="BRANCH=FOLDER"):
        convert.run(arguments(base, tmp_path / "out", "--vision=nonsense"))
    assert not (tmp_path / "out").exists()


# VRC.


def test_mobilenet_names_and_folding(tmp_path: Path) -> None:
    """transformers' MobileNetV2 (first block in the stem, batch norms apart) gives the layers that it computes with."""
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(0)
    settings_ = MobileNetV2Config(depth_multiplier=0.25, image_size=32, tf_padding=False)
    model = MobileNetV2Model(settings_).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    state = {k: v.numpy() for k, v in model.state_dict().items() if v.dtype == torch.float32}
    widths = [b.reduce_1x1.convolution.weight.shape[0] for b in model.layer]
    repeats = [(6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1)]
    stem = model.conv_stem.reduce_1x1.convolution.weight.shape[0]
    blocks, at = [[1, stem, 1, 1]], 0
    for expansion, count, stride in repeats:
        blocks.append([expansion, widths[at], count, stride])
        at += count
    last = model.conv_1x1.convolution.weight.shape[0]
    rng = np.random.default_rng(0)
    state["pool.weight"], state["pool.bias"] = rng.normal(0, 0.1, (1, last, 1, 1)), np.zeros(1)
    state["fc1.weight"], state["fc1.bias"] = rng.normal(0, 0.1, (16, last)), np.zeros(16)
    state["fc2.weight"], state["fc2.bias"] = rng.normal(0, 0.1, (1, 16)), np.zeros(1)
    save(tmp_path / "model.safetensors", {k: v.astype(np.float32) for k, v in state.items()})
    values = random_model.preset_config("tiny", 1).to_dict()
    values["vrc_config"] = {
        "image_size": 32, "stem_channels": model.conv_stem.first_conv.convolution.weight.shape[0], "blocks": blocks,
        "last_channels": last, "hidden_size": 16, "grid": [0.5, 1.0],
    }  # fmt: skip
    config = Config.from_dict(values)
    assert config.vrc_config is not None
    from hypervl_engine.convert.vrc_names import vrc_tensors

    source = FloatSource(
        config, vrc_tensors(SafetensorsFolder(tmp_path)), tmp_path, batch_norm_eps=settings_.layer_norm_eps
    )
    layers = vrc.read_layers(source, config.vrc_config)
    x = block = vrc._synthetic_image(32, 1)[None]
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).last_hidden_state.numpy()
    for index, layer in enumerate(layers[:-3]):
        if index == 1 or (index and layers[index - 1].spec.projection):
            block = x
        x = vrc._run(layer, x)
        if layer.spec.residual:
            x = x + block
    np.testing.assert_allclose(x, expected, atol=2e-4)


def test_vrc_tensors(converted: Converted) -> None:
    folder, tensors, _ = converted
    store = open_checkpoint(folder).open_weights()
    vrc_config = open_checkpoint(folder).parsed_config.vrc_config
    assert vrc_config is not None
    for layer in vrc_layers(vrc_config):
        scale = store.array(f"{layer.name}.weight_scale").reshape(-1, *[1] * (len(layer.shape) - 1))
        error = store.array(f"{layer.name}.weight") * scale - tensors[f"{layer.name}.weight"]
        assert (np.abs(error) <= scale * 0.5001).all()
        np.testing.assert_array_equal(store.array(f"{layer.name}.bias"), tensors[f"{layer.name}.bias"])
        if layer.projection:
            assert 1e-5 < float(store.array(f"{layer.name}.output_scale")) < 1.0


def test_vrc_channels_of_zeros_keep_their_bias() -> None:
    config = random_model.preset_config("tiny", 1).vrc_config
    assert config is not None
    layers = [
        vrc.FloatLayer(s, np.zeros(s.shape, np.float32), np.full(s.shape[0], 0.5, np.float32), None)
        for s in vrc_layers(config)
    ]
    tensors = vrc.quantize_layers(layers, config)
    in_scale = 1 / 128
    for layer in layers:
        scale = tensors[f"{layer.spec.name}.weight_scale"].astype(np.float64)
        assert (0.5 / (in_scale * scale) < 2**30).all()
        in_scale = float(tensors[f"{layer.spec.name}.output_scale"]) if layer.spec.projection else 6 / 255


# Errors, output, presets.


def test_source_errors(tmp_path: Path) -> None:
    config = random_model.preset_config("tiny", 1)
    tensors = float_folder(tmp_path / "float", config)
    name = "model.language_model.layers.0.mlp.up_proj.weight"

    def attempt(match: str, error: type[Exception] = CheckpointError) -> None:
        with pytest.raises(error, match=match):
            convert.convert_folder(tmp_path / "float", tmp_path / "out", progress=False)
        assert [p.name for p in tmp_path.iterdir()] == ["float"]

    path = tmp_path / "float" / "model.safetensors"
    save(path, {k: v for k, v in tensors.items() if k != name})
    attempt("up_proj")
    save(path, {**tensors, name: tensors[name][:-1]})
    attempt("expected the shape")
    bad = tensors[name].copy()
    bad[3, 4] = np.nan
    save(path, {**tensors, name: bad})
    attempt("finite")
    save(path, {k: v for k, v in tensors.items() if k != "model.vrc.fc1.bias"})
    attempt("fc1.bias")
    save(path, tensors)
    (tmp_path / "float" / "tokenizer.json").unlink()
    attempt("tokenizer", FileNotFoundError)


def test_output_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    convert.convert_random("tiny", tmp_path / "out", layers=1, progress=False)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        convert.convert_random("tiny", tmp_path / "out", layers=1, seed=1, progress=False)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    convert.convert_random("tiny", tmp_path / "out", layers=1, seed=1, overwrite=True, progress=False)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="not a HyperVL"):
        convert.convert_random("tiny", tmp_path / "precious", layers=1, overwrite=True, progress=False)
    assert (tmp_path / "precious" / "letter.txt").read_text() == "dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "precious"]


def test_packed_checkpoints_are_not_packed_again(tmp_path: Path) -> None:
    convert.convert_random("tiny", tmp_path / "a", layers=1, progress=False)
    with pytest.raises(CheckpointError, match="already"):
        convert.convert_folder(tmp_path / "a", tmp_path / "b", progress=False)


def test_random_is_reproducible_and_adjustable(tmp_path: Path) -> None:
    def untied(config: Config) -> Config:
        return replace(config, text_config=replace(config.text_config, tie_word_embeddings=False), vrc_config=None)

    for name in ("a", "b"):
        convert.convert_random("tiny", tmp_path / name, layers=1, seed=3, group_size=32, adjust=untied, progress=False)
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("a", "b"))
    assert first == second
    store = open_checkpoint(tmp_path / "a").open_weights()
    assert "lm_head.weight" in store.names()
    assert not any("vrc" in name for name in store.names())
    weight = store.dequantize("model.language_model.layers.0.mlp.gate_proj.weight")
    assert 0.5 < weight.std() * 128**0.5 < 2
    with pytest.raises(ValueError, match="preset"):
        convert.convert_random("huge", tmp_path / "c")


@pytest.mark.parametrize("vocabulary", [262, 512, synthetic_tokenizer.QWEN_VOCABULARY])
def test_synthetic_tokenizer(tmp_path: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer

    synthetic_tokenizer.write(tmp_path, vocabulary)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == vocabulary
    for token, number in synthetic_tokenizer.special_ids(vocabulary).items():
        assert tokenizer.token_to_id(token) == number
        assert tokenizer.encode(f"a{token}b").ids[1] == number
    text = "The quick brown fox: naïve 東京 😀\n\tcafé"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    if vocabulary == synthetic_tokenizer.QWEN_VOCABULARY:
        assert tokenizer.token_to_id("<|image_pad|>") == 151655
        assert len(tokenizer.encode(" the rest of this line").ids) < 12


def test_header_of_the_full_shape() -> None:
    """The published sizes, without writing them."""
    config = random_model.preset_config("hypervl-1.8b", None)
    values = {name: rows * columns for name, (rows, columns) in linear_shapes(config)}
    layers = sum(n for name, n in values.items() if name.startswith("model.language_model.layers"))
    assert layers == 1_409_286_144
    assert values["model.language_model.embed_tokens.weight"] == 151_936 * 2048
    assert config.vision_configs["large"].positions == 256


def test_a_copied_checkpoint_is_valid_for_the_reference_reader(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    convert.convert_random("tiny", tmp_path / "out", layers=1, progress=False)
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    loaded = load_file(str(tmp_path / "copy" / "model.safetensors"))
    ours = SafetensorsFile(tmp_path / "out" / "model.safetensors")
    assert set(loaded) == set(ours.tensors)
    for name, values in loaded.items():
        np.testing.assert_array_equal(values, ours.array(name))

"""Makes a packed checkpoint: from a HyperVL float folder (--from), from published parts (--llm, --vision, --projector,
--vrc), or with random weights of the published shape (--random)."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervl_engine.checkpoint import progress_bar, stored_tensors
from hypervl_engine.config import Config
from hypervl_engine.convert import packing, synthetic_tokenizer
from hypervl_engine.convert.chat_template import CHAT_TEMPLATE
from hypervl_engine.convert.random_model import PRESETS, RandomWeights, preset_config
from hypervl_engine.convert.sources import FloatSource, Parts, from_parts, whole_folder
from hypervl_engine.convert.vrc import quantize_layers, read_layers
from hypervl_engine.safetensors import SafetensorsWriter
from hypervl_engine.tensors import TensorSpec, expected_tensors

__all__ = ["PRESETS", "Summary", "add_arguments", "convert_folder", "convert_parts", "convert_random", "run"]


@dataclass
class Summary:
    """What a conversion wrote. `errors`: component -> relative error of the packed weights, ||w - packed|| / ||w||."""

    output: Path
    bytes: int
    errors: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.output}: {self.bytes / 1e6:.1f} MB"]
        lines += [f"  {name:<28} relative error {error:.4f}" for name, error in self.errors.items()]
        return "\n".join(lines)


def convert_folder(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, group_size: int = 128, **options: Any
) -> Summary:
    """Pack a HyperVL float folder. Options: overwrite (default False), progress (default True).

    Raises FileNotFoundError, CheckpointError (naming the tensor or key) or FileExistsError.
    """
    return _convert_floats(whole_folder(Path(source)), Path(output), group_size, **options)


def convert_parts(parts: Parts, output: str | os.PathLike[str], *, group_size: int = 128, **options: Any) -> Summary:
    """Pack published parts into one checkpoint; as `convert_folder`."""
    return _convert_floats(from_parts(parts), Path(output), group_size, **options)


def convert_random(
    preset: str,
    output: str | os.PathLike[str],
    *,
    layers: int | None = None,
    seed: int = 0,
    group_size: int = 128,
    adjust: Callable[[Config], Config] | None = None,
    **options: Any,
) -> Summary:
    """Write a checkpoint of a preset's shape with random weights. `adjust` may change the config first."""
    config = preset_config(preset, layers)
    config = adjust(config) if adjust else config
    weights = RandomWeights(config, seed)

    def linear(name: str, spec: TensorSpec, begin: int, end: int) -> _Packed:
        return _Packed(*weights.linear(name, spec, begin, end))

    vrc = weights.vrc(config.vrc_config) if config.vrc_config is not None else {}

    def files(folder: Path) -> None:
        synthetic_tokenizer.write(folder, config.text_config.vocab_size)
        _write_common(folder, None, {})

    return _write(config, Path(output), group_size, _Producer(linear, weights.array, vrc, files), **options)


@dataclass
class _Packed:
    """Some rows of a linear, packed. Error and norm are sums of squares."""

    words: NDArray[np.int32]
    scales: NDArray[np.float32]
    error: float = 0.0
    norm: float = 0.0


@dataclass
class _Producer:
    """Where a conversion's tensors come from."""

    linear: Callable[[str, TensorSpec, int, int], _Packed]
    array: Callable[[str, TensorSpec], NDArray[np.float32]]
    vrc: dict[str, NDArray[np.generic]]
    files: Callable[[Path], None]


def _convert_floats(source: FloatSource, output: Path, group_size: int, **options: Any) -> Summary:
    def linear(name: str, spec: TensorSpec, begin: int, end: int) -> _Packed:
        weight = source.read(name, spec.shape, begin, end)
        words, scales, error = packing.quantize(weight, spec.bits, spec.group_size)
        source.release()
        return _Packed(words, scales, error, float(np.vdot(weight, weight)))

    vrc_config = source.config.vrc_config
    vrc = quantize_layers(read_layers(source, vrc_config), vrc_config) if vrc_config is not None else {}

    def files(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (source.tokenizer / name).is_file():
                shutil.copyfile(source.tokenizer / name, folder / name)
        if not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(
                f"{source.tokenizer / 'tokenizer.json'}: expected the tokenizer, there is no such file"
            )
        _write_common(folder, source.chat_template, source.generation_config)

    def array(name: str, spec: TensorSpec) -> NDArray[np.float32]:
        return source.read(name, spec.shape)

    return _write(source.config, output, group_size, _Producer(linear, array, vrc, files), **options)


def _write_common(folder: Path, chat_template: str | None, generation_config: dict[str, Any]) -> None:
    (folder / "chat_template.jinja").write_text(chat_template or CHAT_TEMPLATE, "utf-8")
    if generation_config:
        (folder / "generation_config.json").write_text(json.dumps(generation_config, indent=2) + "\n", "utf-8")


def _write(
    config: Config,
    output: Path,
    group_size: int,
    producer: _Producer,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Writes into a folder beside `output`, which takes its place when complete."""
    if group_size not in (32, 64, 128):
        raise ValueError(f"group_size is {group_size}: expected 32, 64 or 128")
    _check_output(output, overwrite)
    config = replace(config, quantization_config=packing.plan(config, group_size))
    specs = expected_tensors(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.parent / f".{output.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        producer.files(temporary)
        (temporary / "config.json").write_text(json.dumps(_config_json(config), indent=2) + "\n", "utf-8")
        errors = _write_tensors(temporary / "model.safetensors", specs, producer, progress)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        if output.exists():
            old = output.parent / f".{output.name}.{uuid.uuid4().hex}.old"
            output.rename(old)
            temporary.rename(output)
            shutil.rmtree(old)
        else:
            temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Summary(output, size, errors)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"{output} exists: choose another name, or allow it to be replaced with --overwrite")
    try:
        ours = json.loads((output / "config.json").read_text("utf-8")).get("model_type") == "hypervl"
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise FileExistsError(f"{output} is not a HyperVL checkpoint: it is not overwritten")


def _config_json(config: Config) -> dict[str, Any]:
    values = config.to_dict()
    values["text_config"] = {"model_type": "qwen3", **values["text_config"]}
    values["vision_configs"] = {
        branch: {"model_type": "siglip_vision_model", **vision} for branch, vision in values["vision_configs"].items()
    }
    return {"architectures": ["HyperVLForConditionalGeneration"], **values}


def _write_tensors(path: Path, specs: dict[str, TensorSpec], producer: _Producer, progress: bool) -> dict[str, float]:
    """Writes every tensor; returns the relative error of each component that was quantised from floats."""
    layout = {
        stored: (dtypes[0], shape)
        for name, spec in specs.items()
        for stored, (dtypes, shape) in stored_tensors(name, spec).items()
    }
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    total = sum(int(np.prod(spec.shape)) for spec in specs.values())
    with SafetensorsWriter(path, layout) as writer, progress_bar(total, "packing", progress) as advance:
        for name, spec in specs.items():
            if spec.kind == "linear":
                for begin, end in packing.row_chunks(*spec.shape):
                    packed = producer.linear(name, spec, begin, end)
                    last = end == spec.shape[0]
                    writer.write_rows(name + "_packed", begin, packed.words, last)
                    writer.write_rows(name + "_scale", begin, packed.scales, last)
                    sums[_component(name)][0] += packed.error
                    sums[_component(name)][1] += packed.norm
                    advance((end - begin) * spec.shape[1])
                writer.write(name + "_shape", np.array(spec.shape, np.int64))
            else:
                values = producer.vrc[name] if name in producer.vrc else producer.array(name, spec)
                writer.write(name, values)
                advance(values.size)
    return {name: float(np.sqrt(error / norm)) for name, (error, norm) in sums.items() if norm > 0}


def _component(name: str) -> str:
    """model.vision_tower.base.encoder... -> vision_tower.base."""
    parts = name.removeprefix("model.").split(".")
    if parts[0] == "language_model":
        return "language_model.embed_tokens" if parts[1] == "embed_tokens" else "language_model.layers"
    return ".".join(parts[:2]) if parts[0] != "lm_head" else "lm_head"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hypervl-engine convert`."""
    parser.add_argument("output", type=Path, help="the checkpoint folder to write")
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="a HyperVL float checkpoint")
    parser.add_argument("--random", metavar="PRESET", help=f"random weights: {', '.join(PRESETS)}")
    parser.add_argument("--layers", type=int, help="with --random: at most so many layers in each stack")
    parser.add_argument("--seed", type=int, default=0, help="with --random")
    parts = parser.add_argument_group("parts (BRANCH=FOLDER may be given once a branch)")
    parts.add_argument("--llm", type=Path, metavar="FOLDER", help="Qwen3, its tokenizer with it")
    parts.add_argument(
        "--vision", action="append", default=[], metavar="BRANCH=FOLDER", help="SigLIP2, fixed resolution"
    )
    parts.add_argument("--projector", action="append", default=[], metavar="BRANCH=PATH", help="linear_1, linear_2")
    parts.add_argument("--vrc", type=Path, metavar="FOLDER", help="MobileNetV2 with pool, fc1, fc2 and vrc_config")
    parts.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="default: the one of --llm")
    parts.add_argument("--default-branch", help="default: the first one given")
    parts.add_argument("--tile-size", type=int, help="pixels; default: the towers' image size")
    parts.add_argument("--pixel-shuffle", type=int, default=2)
    parts.add_argument("--projector-act", default="gelu")
    parser.add_argument("--group-size", type=int, default=128, choices=(32, 64, 128), help="columns that share a scale")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing checkpoint")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def run(options: argparse.Namespace) -> int:
    """Runs `hypervl-engine convert`; returns the exit code."""
    chosen = [name for name in ("source", "random", "llm") if getattr(options, name) is not None]
    if len(chosen) != 1:
        raise ValueError("expected one of --from, --random and --llm")
    common = {"group_size": options.group_size, "overwrite": options.overwrite, "progress": not options.quiet}
    if options.source is not None:
        summary = convert_folder(options.source, options.output, **common)
    elif options.random is not None:
        if options.layers is not None and options.layers < 1:
            raise ValueError(f"--layers is {options.layers}: expected at least 1")
        summary = convert_random(options.random, options.output, layers=options.layers, seed=options.seed, **common)
    else:
        parts = Parts(
            llm=options.llm,
            vision=_by_branch("--vision", options.vision),
            projectors=_by_branch("--projector", options.projector),
            vrc=options.vrc,
            tokenizer=options.tokenizer,
            default_branch=options.default_branch,
            tile_size=options.tile_size,
            pixel_shuffle=options.pixel_shuffle,
            projector_act=options.projector_act,
        )
        summary = convert_parts(parts, options.output, **common)
    if not options.quiet:
        print(summary, file=sys.stderr)
    return 0


def _by_branch(option: str, values: list[str]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for value in values:
        branch, separator, path = value.partition("=")
        if not separator or not branch or not path or branch in paths:
            raise ValueError(f"{option} {value}: expected BRANCH=FOLDER, once a branch")
        paths[branch] = Path(path)
    return paths

"""config.json as typed, validated, immutable objects (docs/checkpoint.md says what each key means).

Every problem is a `CheckpointError` naming the key, what was expected and what came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypervl_engine._config_reader import Reader, check
from hypervl_engine.errors import CheckpointError

ACTIVATIONS = ("gelu_pytorch_tanh", "gelu", "quick_gelu", "silu", "relu")
MAX_HEAD_DIM = 256  # kernels/attention
MAX_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True)
class TextConfig:
    """A Qwen3 decoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    hidden_act: str
    eos_token_id: tuple[int, ...]
    bos_token_id: int | None

    @staticmethod
    def read(r: Reader) -> TextConfig:
        hidden, heads = r.integer("hidden_size", 1, 65536), r.integer("num_attention_heads", 1, 1024)
        kv_heads = r.integer("num_key_value_heads", 1, 1024, default=heads)
        check(
            heads % kv_heads == 0,
            r.name("num_key_value_heads"),
            f"a divisor of num_attention_heads ({heads})",
            kv_heads,
        )
        head_dim = r.integer("head_dim", 2, MAX_HEAD_DIM, default=hidden // heads)
        check(head_dim % 2 == 0, r.name("head_dim"), "an even number (it is rotated in halves)", head_dim)
        rope = r.section("rope_parameters", optional=True)
        theta = (rope or r).number("rope_theta", 1.0, 1e12, default=r.number("rope_theta", 1.0, 1e12, default=10000.0))
        for key in ("rope_scaling", "rope_parameters"):
            scaling = r.section(key, optional=True)
            if scaling is not None:
                kind = scaling.get("rope_type", scaling.get("type", "default"))
                check(
                    kind == "default",
                    scaling.name("rope_type"),
                    "'default' (scaled rotary positions are not supported)",
                    kind,
                )
        for key in ("attention_bias", "use_sliding_window"):
            check(not r.boolean(key, default=False), r.name(key), "false (Qwen3 with it is not supported)", True)
        vocab = r.integer("vocab_size", 1, 1 << 24)
        eos = r.get("eos_token_id")
        ids = () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)
        for token in ids:
            check(
                type(token) is int and 0 <= token < vocab, r.name("eos_token_id"), f"ids from 0 to {vocab - 1}", token
            )
        return TextConfig(
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=r.integer("intermediate_size", 1, 1 << 20),
            num_hidden_layers=r.integer("num_hidden_layers", 1, 512),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=r.integer("max_position_embeddings", 1, 1 << 24),
            rms_norm_eps=r.number("rms_norm_eps", 1e-12, 1.0, default=1e-6),
            rope_theta=theta,
            tie_word_embeddings=r.boolean("tie_word_embeddings", default=False),
            hidden_act=r.choice("hidden_act", ("silu",), default="silu"),
            eos_token_id=ids,
            bos_token_id=r.integer("bos_token_id", 0, vocab - 1, default=None),
        )


@dataclass(frozen=True)
class VisionConfig:
    """One SigLIP vision branch."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    num_channels: int
    hidden_act: str
    layer_norm_eps: float

    @property
    def positions(self) -> int:
        """Rows of the position table."""
        return (self.image_size // self.patch_size) ** 2

    @staticmethod
    def read(r: Reader) -> VisionConfig:
        # transformers' SiglipVisionConfig leaves out of config.json what equals its defaults (base-patch16-224).
        hidden = r.integer("hidden_size", 1, 65536, default=768)
        heads = r.integer("num_attention_heads", 1, 1024, default=12)
        check(hidden % heads == 0, r.name("num_attention_heads"), f"a divisor of hidden_size ({hidden})", heads)
        check(hidden // heads <= MAX_HEAD_DIM, r.name("num_attention_heads"), f"heads of at most {MAX_HEAD_DIM}", heads)
        patch = r.integer("patch_size", 1, 256, default=16)
        image = r.integer("image_size", 1, 8192, default=224)
        check(image >= patch, r.name("image_size"), f"at least patch_size ({patch})", image)
        return VisionConfig(
            hidden_size=hidden,
            intermediate_size=r.integer("intermediate_size", 1, 1 << 20, default=3072),
            num_hidden_layers=r.integer("num_hidden_layers", 1, 512, default=12),
            num_attention_heads=heads,
            image_size=image,
            patch_size=patch,
            num_channels=r.integer("num_channels", 3, 3, default=3),
            hidden_act=r.choice("hidden_act", ACTIVATIONS, default="gelu_pytorch_tanh"),
            layer_norm_eps=r.number("layer_norm_eps", 1e-12, 1.0, default=1e-6),
        )


@dataclass(frozen=True)
class ProjectorConfig:
    """Linear -> activation -> Linear after the pixel shuffle."""

    hidden_size: int
    hidden_act: str

    @staticmethod
    def read(r: Reader) -> ProjectorConfig:
        r.only("hidden_size", "hidden_act")
        return ProjectorConfig(r.integer("hidden_size", 1, 65536), r.choice("hidden_act", ACTIVATIONS, default="gelu"))


@dataclass(frozen=True)
class PreprocessorConfig:
    """Pixels to floats, and what lies outside the image."""

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resample: str
    pad_value: float
    pad_stage: str

    @staticmethod
    def read(r: Reader) -> PreprocessorConfig:
        r.only("image_mean", "image_std", "resample", "pad_value", "pad_stage")
        stage = r.choice("pad_stage", ("normalized", "pixel"), default="normalized")
        low, high = (0.0, 255.0) if stage == "pixel" else (-100.0, 100.0)
        return PreprocessorConfig(
            image_mean=r.triple("image_mean", -10.0, 10.0, default=(0.5, 0.5, 0.5)),
            image_std=r.triple("image_std", 1e-3, 10.0, default=(0.5, 0.5, 0.5)),
            resample=r.choice("resample", ("bicubic", "bilinear"), default="bicubic"),
            pad_value=r.number("pad_value", low, high, default=0.0),
            pad_stage=stage,
        )


@dataclass(frozen=True)
class TilingConfig:
    """How the resized image is cut, and the order of its tokens."""

    tile_size: int
    pixel_shuffle: int
    edge_tiles: str
    edge_positions: str
    use_thumbnail: bool
    thumbnail_position: str
    token_order: str
    tile_separator_id: int | None
    row_separator_id: int | None
    thumbnail_separator_id: int | None

    @staticmethod
    def read(r: Reader, vocab_size: int) -> TilingConfig:
        r.only(*TilingConfig.__dataclass_fields__)
        order = r.choice("token_order", ("tile", "raster"), default="tile")
        tile_separator = r.integer("tile_separator_id", 0, vocab_size - 1, default=None)
        check(
            order == "tile" or tile_separator is None,
            r.name("tile_separator_id"),
            "null when token_order is 'raster'",
            tile_separator,
        )
        return TilingConfig(
            tile_size=r.integer("tile_size", 1, 8192),
            pixel_shuffle=r.integer("pixel_shuffle", 1, 8, default=2),
            edge_tiles=r.choice("edge_tiles", ("crop",), default="crop"),
            edge_positions=r.choice("edge_positions", ("crop", "interpolate"), default="crop"),
            use_thumbnail=r.boolean("use_thumbnail", default=False),
            thumbnail_position=r.choice("thumbnail_position", ("first", "last"), default="last"),
            token_order=order,
            tile_separator_id=tile_separator,
            row_separator_id=r.integer("row_separator_id", 0, vocab_size - 1, default=None),
            thumbnail_separator_id=r.integer("thumbnail_separator_id", 0, vocab_size - 1, default=None),
        )


@dataclass(frozen=True)
class VrcConfig:
    """The visual resolution compressor: an integer MobileNetV2 that picks a scale."""

    image_size: int
    stem_channels: int
    blocks: tuple[tuple[int, int, int, int], ...]  # expansion, channels, repeats, first stride
    last_channels: int
    hidden_size: int
    size_norm: int | None
    grid: tuple[float, ...]

    @property
    def features(self) -> int:
        """Width of the MLP's input: the pooled channels and, with `size_norm`, the image's two sides."""
        return self.last_channels + (2 if self.size_norm is not None else 0)

    @staticmethod
    def read(r: Reader) -> VrcConfig:
        r.only(*VrcConfig.__dataclass_fields__)
        blocks = []
        for i, block in enumerate(r.array("blocks", 1, 64)):
            at = f"{r.name('blocks')}[{i}]"
            fits = isinstance(block, list) and len(block) == 4 and all(type(v) is int for v in block)
            check(fits, at, "[expansion, channels, repeats, first stride]", block)
            t, c, n, s = block
            check(
                1 <= t <= 16 and 1 <= c <= 4096 and 1 <= n <= 64 and s in (1, 2),
                at,
                "expansion 1..16, channels 1..4096, repeats 1..64, stride 1 or 2",
                block,
            )
            blocks.append((t, c, n, s))
        grid = [
            Reader({"grid": g}, f"{r.name('grid')}[{i}]").number("grid", 1e-3, 1.0)
            for i, g in enumerate(r.array("grid", 1, 256))
        ]
        check(all(a < b for a, b in pairwise(grid)), r.name("grid"), "ascending scales", grid)
        return VrcConfig(
            image_size=r.integer("image_size", 8, 1024),
            stem_channels=r.integer("stem_channels", 1, 4096),
            blocks=tuple(blocks),
            last_channels=r.integer("last_channels", 1, 16384),
            hidden_size=r.integer("hidden_size", 1, 16384),
            size_norm=r.integer("size_norm", 1, 1 << 20, default=None),
            grid=tuple(grid),
        )


@dataclass(frozen=True)
class QuantScheme:
    """How a linear's weight is stored. group_size 0: one scale a row (`channel`). Not symmetric: every scale has a zero point."""

    bits: int
    group_size: int
    symmetric: bool = True


@dataclass(frozen=True)
class QuantizationConfig:
    """compressed-tensors' `pack-quantized`: which modules, how many bits, which groups."""

    groups: tuple[tuple[QuantScheme, tuple[str, ...]], ...]
    ignore: tuple[str, ...]

    @staticmethod
    def read(r: Reader) -> QuantizationConfig:
        r.choice("quant_method", ("compressed-tensors",))
        r.choice("format", ("pack-quantized",))
        r.choice("quantization_status", ("compressed", "frozen"), default="compressed")
        groups = []
        for key, _ in r.section("config_groups").items():
            g = r.section("config_groups").section(key)
            for part in ("input_activations", "output_activations"):
                check(g.get(part) is None, g.name(part), "null (activations are quantised by the engine)", g.get(part))
            w = g.section("weights")
            bits = w.integer("num_bits", 4, 8)
            check(bits in (4, 8), w.name("num_bits"), "4 or 8", bits)
            w.choice("type", ("int",), default="int")
            symmetric = w.boolean("symmetric", default=True)
            strategy = w.choice("strategy", ("group", "channel"))
            size = w.integer("group_size", 32, 128) if strategy == "group" else 0
            check(size in (0, 32, 64, 128), w.name("group_size"), "32, 64 or 128", size)
            check(
                w.get("actorder") in (None, "static", "weight"),
                w.name("actorder"),
                "no reordering of columns",
                w.get("actorder"),
            )
            groups.append((QuantScheme(bits, size, symmetric), _patterns(g, "targets")))
        return QuantizationConfig(tuple(groups), _patterns(r, "ignore") if r.get("ignore") is not None else ())

    @cached_property
    def _compiled(self) -> dict[str, re.Pattern[str]]:
        targets = [t for _, names in self.groups for t in names] + list(self.ignore)
        return {t: re.compile(t[3:]) for t in targets if t.startswith("re:")}

    def scheme(self, module: str, kind: str) -> QuantScheme | None:
        """How `module` is stored, or None when it is not quantised. `kind`: its class, e.g. "Linear"."""

        def matches(target: str, rank: int) -> bool:
            if target.startswith("re:"):
                return rank == 1 and self._compiled[target].match(module) is not None
            return target == (module if rank == 0 else kind if rank == 2 else None)

        if any(matches(target, rank) for target in self.ignore for rank in range(3)):
            return None
        for rank in range(3):  # the whole name before a pattern before a class, as compressed-tensors does
            for scheme, targets in self.groups:
                if any(matches(t, rank) for t in targets):
                    return scheme
        return None


def _patterns(r: Reader, key: str) -> tuple[str, ...]:
    values = r.array(key, 0, 100_000)
    for value in values:
        check(
            isinstance(value, str) and 0 < len(value) < 4096,
            r.name(key),
            "a list of module names, classes or 're:' patterns",
            value,
        )
        if value.startswith("re:"):
            try:
                re.compile(value[3:])
            except re.error as error:
                raise CheckpointError(f"{r.name(key)}: {value!r} is not a regular expression: {error}") from None
    return tuple(values)


@dataclass(frozen=True)
class Config:
    """All of config.json."""

    text_config: TextConfig
    vision_configs: Mapping[str, VisionConfig]
    default_branch: str
    projector_configs: Mapping[str, ProjectorConfig]
    preprocessor: PreprocessorConfig
    tiling: TilingConfig
    vrc_config: VrcConfig | None
    image_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    quantization_config: QuantizationConfig | None

    @staticmethod
    def from_dict(values: Any) -> Config:
        """Validate the content of a config.json. CheckpointError when anything is off."""
        r = Reader(values, "config.json")
        r.choice("model_type", ("hypervl",))
        text = TextConfig.read(r.section("text_config"))
        branches = r.section("vision_configs")
        check(0 < len(branches.items()) <= 16, branches.name(), "one to sixteen branches", len(branches.items()))
        for name, _ in branches.items():
            check(
                re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", name) is not None,
                branches.name(name),
                "a branch name of letters and digits",
                name,
            )
        vision = {name: VisionConfig.read(branches.section(name)) for name, _ in branches.items()}
        projectors = r.section("projector_configs")
        projectors.only(*vision)
        tiling = TilingConfig.read(r.section("tiling"), text.vocab_size)
        for name, v in vision.items():
            unit = v.patch_size * tiling.pixel_shuffle
            check(
                tiling.tile_size % unit == 0,
                "config.json: tiling.tile_size",
                f"a multiple of patch_size * pixel_shuffle = {unit} of branch {name!r}",
                tiling.tile_size,
            )
        vrc, quantization = r.section("vrc_config", optional=True), r.section("quantization_config", optional=True)
        last = text.vocab_size - 1
        return Config(
            text_config=text,
            vision_configs=vision,
            default_branch=r.choice("default_branch", tuple(vision), default=next(iter(vision))),
            projector_configs={name: ProjectorConfig.read(projectors.section(name)) for name in vision},
            preprocessor=PreprocessorConfig.read(r.section("preprocessor")),
            tiling=tiling,
            vrc_config=VrcConfig.read(vrc) if vrc is not None else None,
            image_token_id=r.integer("image_token_id", 0, last),
            vision_start_token_id=r.integer("vision_start_token_id", 0, last),
            vision_end_token_id=r.integer("vision_end_token_id", 0, last),
            quantization_config=QuantizationConfig.read(quantization) if quantization is not None else None,
        )

    @staticmethod
    def load(folder: Path) -> Config:
        """Read and validate `folder`/config.json. FileNotFoundError when there is none, else CheckpointError."""
        return Config.from_dict(read_json(folder / "config.json"))

    def to_dict(self) -> dict[str, Any]:
        """The canonical config.json content: every default filled in, quantization_config rewritten."""
        values = _plain(asdict(self))
        del values["quantization_config"]
        if self.quantization_config is not None:
            values["quantization_config"] = quantization_dict(self.quantization_config)
        return {"model_type": "hypervl", **values}


def _plain(value: Any) -> Any:
    """Tuples to lists, all the way down, as JSON would have them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def quantization_dict(config: QuantizationConfig) -> dict[str, Any]:
    """compressed-tensors' form of a QuantizationConfig."""
    groups = {}
    for i, (scheme, targets) in enumerate(config.groups):
        weights: dict[str, Any] = {"num_bits": scheme.bits, "type": "int", "symmetric": scheme.symmetric}
        weights |= (
            {"strategy": "group", "group_size": scheme.group_size} if scheme.group_size else {"strategy": "channel"}
        )
        groups[f"group_{i}"] = {"targets": list(targets), "weights": weights}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": list(config.ignore),
    }


def read_json(path: Path, limit: int = MAX_CONFIG_BYTES) -> Any:
    """Parse a JSON file of at most `limit` bytes."""
    size = path.stat().st_size
    if size > limit:
        raise CheckpointError(f"{path}: expected at most {limit} bytes of JSON, got {size}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None

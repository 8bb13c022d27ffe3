"""The tensors a checkpoint of a given config must have: names, shapes, dtypes (docs/checkpoint.md, "Tensors")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hypervl_engine.config import Config, QuantScheme, TextConfig, VisionConfig, VrcConfig
from hypervl_engine.errors import CheckpointError

FLOATS = ("F32", "F16", "BF16")
EMBEDDING = "model.language_model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"
DECODED = ("model.language_model.", LM_HEAD)
"""How the names of those begin that every decoded token reads."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the model, under its float name.

    A `linear` (rows, columns) is stored packed: `X.weight_packed`, `X.weight_scale`, `X.weight_shape` and, with
    `zero_points`, `X.weight_zero_point`. An `array` is stored as it is, in one of `dtypes`; the engine keeps it as the first of them.
    """

    kind: Literal["linear", "array"]
    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = FLOATS
    bits: int = 0
    group_size: int = 0  # linear: 0 is one scale a row
    zero_points: bool = False

    @property
    def groups(self) -> int:
        """Scales a row."""
        return self.shape[1] // self.group_size if self.group_size else 1

    @property
    def engine_group(self) -> int:
        """Columns that share a scale in memory, of weights and of what they are multiplied by.

        One scale a row is repeated: for 8 bits without zero points as seldom as dots of int32 allow, so that less is scaled and added.
        Of the sizes that pad the columns least, the largest.
        """
        if self.group_size:
            return self.group_size
        if self.bits == 4 or self.zero_points:
            return 128
        return min((512, 384, 256, 128), key=lambda group: -(-self.shape[1] // group) * group)


def expected_tensors(config: Config) -> dict[str, TensorSpec]:
    """Every tensor of a packed checkpoint, in the order the model runs through them.

    Raises CheckpointError when the config has no quantization_config, or one that leaves out a linear or does not fit
    its columns.
    """
    if config.quantization_config is None:
        raise CheckpointError(
            "config.json: expected a quantization_config (a packed checkpoint), got a float checkpoint: "
            "pack it with `hypervl-engine convert`"
        )
    specs: dict[str, TensorSpec] = {}
    for name, shape in linear_shapes(config):
        specs[name] = _linear_spec(config, name, shape)
    _check_groups(specs)
    for name, sides in array_shapes(config):
        specs[name] = TensorSpec("array", sides)
    if config.vrc_config is not None:
        for layer in vrc_layers(config.vrc_config):
            specs[f"{layer.name}.weight"] = TensorSpec("array", layer.shape, ("I8",))
            specs[f"{layer.name}.weight_scale"] = TensorSpec("array", layer.shape[:1])
            specs[f"{layer.name}.bias"] = TensorSpec("array", layer.shape[:1])
            if layer.projection:
                specs[f"{layer.name}.output_scale"] = TensorSpec("array", ())
    return specs


def _linear_spec(config: Config, name: str, shape: tuple[int, int]) -> TensorSpec:
    assert config.quantization_config is not None
    module = name.removesuffix(".weight")
    # A tied embedding is the head's linear too, a patch convolution is a linear over its patch: "Linear" means both.
    kinds = {EMBEDDING: ("Embedding", "Linear")}.get(name, ("Linear",))
    if module.endswith(".patch_embedding"):
        kinds = ("Conv2d", "Linear")
    schemes: list[QuantScheme] = [s for k in kinds if (s := config.quantization_config.scheme(module, k)) is not None]
    if not schemes:
        raise CheckpointError(
            f"config.json: quantization_config: expected {module} in a group's targets, got no group that names it"
        )
    scheme = schemes[0]
    if scheme.group_size and shape[1] % scheme.group_size:
        raise CheckpointError(
            f"config.json: quantization_config: expected a group_size that divides the {shape[1]} columns of {module}, "
            f"got {scheme.group_size}"
        )
    return TensorSpec("linear", shape, bits=scheme.bits, group_size=scheme.group_size, zero_points=not scheme.symmetric)


def _check_groups(specs: dict[str, TensorSpec]) -> None:
    """Linears that read the same activations, and the same linear in every layer, must have one group size."""
    first: dict[str, tuple[str, int]] = {}
    for name, spec in specs.items():
        shared = re.sub(r"\.layers\.\d+\.", ".layers.N.", name)
        shared = re.sub(r"\.(q|k|v)_proj\.", ".qkv_proj.", re.sub(r"\.(gate|up)_proj\.", ".gate_up_proj.", shared))
        other, group = first.setdefault(shared, (name, spec.engine_group))
        if group != spec.engine_group:
            raise CheckpointError(
                f"config.json: quantization_config: expected {name} and {other} to have the same groups, "
                f"got {spec.engine_group} and {group}"
            )


def linear_shapes(config: Config) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (rows, columns)) of every linear that is quantised."""
    text = config.text_config
    yield EMBEDDING, (text.vocab_size, text.hidden_size)
    for layer in range(text.num_hidden_layers):
        yield from _text_linears(text, f"model.language_model.layers.{layer}")
    if not text.tie_word_embeddings:
        yield LM_HEAD, (text.vocab_size, text.hidden_size)
    for branch, vision in config.vision_configs.items():
        yield from _vision_linears(vision, f"model.vision_tower.{branch}")
        hidden = config.projector_configs[branch].hidden_size
        yield f"model.projector.{branch}.linear_1.weight", (hidden, vision.hidden_size * config.tiling.pixel_shuffle**2)
        yield f"model.projector.{branch}.linear_2.weight", (text.hidden_size, hidden)


def _text_linears(c: TextConfig, at: str) -> Iterator[tuple[str, tuple[int, int]]]:
    query, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    yield f"{at}.self_attn.q_proj.weight", (query, c.hidden_size)
    yield f"{at}.self_attn.k_proj.weight", (kv, c.hidden_size)
    yield f"{at}.self_attn.v_proj.weight", (kv, c.hidden_size)
    yield f"{at}.self_attn.o_proj.weight", (c.hidden_size, query)
    yield f"{at}.mlp.gate_proj.weight", (c.intermediate_size, c.hidden_size)
    yield f"{at}.mlp.up_proj.weight", (c.intermediate_size, c.hidden_size)
    yield f"{at}.mlp.down_proj.weight", (c.hidden_size, c.intermediate_size)


def _vision_linears(c: VisionConfig, at: str) -> Iterator[tuple[str, tuple[int, int]]]:
    yield f"{at}.embeddings.patch_embedding.weight", (c.hidden_size, c.num_channels * c.patch_size**2)
    for layer in range(c.num_hidden_layers):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{at}.encoder.layers.{layer}.self_attn.{name}.weight", (c.hidden_size, c.hidden_size)
        yield f"{at}.encoder.layers.{layer}.mlp.fc1.weight", (c.intermediate_size, c.hidden_size)
        yield f"{at}.encoder.layers.{layer}.mlp.fc2.weight", (c.hidden_size, c.intermediate_size)


def array_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every norm, bias and position table; not the VRC's."""
    text = config.text_config
    for layer in range(text.num_hidden_layers):
        at = f"model.language_model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (text.hidden_size,)
        yield f"{at}.post_attention_layernorm.weight", (text.hidden_size,)
        yield f"{at}.self_attn.q_norm.weight", (text.head_dim,)
        yield f"{at}.self_attn.k_norm.weight", (text.head_dim,)
    yield "model.language_model.norm.weight", (text.hidden_size,)
    for branch, vision in config.vision_configs.items():
        tower, hidden = f"model.vision_tower.{branch}", vision.hidden_size
        yield f"{tower}.embeddings.position_embedding.weight", (vision.positions, hidden)
        for layer in range(vision.num_hidden_layers):
            for norm in ("layer_norm1", "layer_norm2"):
                yield f"{tower}.encoder.layers.{layer}.{norm}.weight", (hidden,)
                yield f"{tower}.encoder.layers.{layer}.{norm}.bias", (hidden,)
        yield f"{tower}.post_layernorm.weight", (hidden,)
        yield f"{tower}.post_layernorm.bias", (hidden,)
        for name, (rows, _) in _vision_linears(vision, tower):
            yield name.removesuffix("weight") + "bias", (rows,)
        yield f"model.projector.{branch}.linear_1.bias", (config.projector_configs[branch].hidden_size,)
        yield f"model.projector.{branch}.linear_2.bias", (text.hidden_size,)


@dataclass(frozen=True)
class VrcLayer:
    """One layer of the VRC. shape: (out, in / groups, kh, kw) or (out, in)."""

    name: str
    shape: tuple[int, ...]
    stride: int = 1
    depthwise: bool = False
    relu6: bool = True
    projection: bool = False  # its int8 output has a calibrated scale
    residual: bool = False  # the block's input is added to it


def vrc_layers(config: VrcConfig) -> Iterator[VrcLayer]:
    """The VRC's layers in the order they run."""
    at = "model.vrc.backbone"
    channels = config.stem_channels
    yield VrcLayer(f"{at}.conv_stem.first_conv.convolution", (channels, 3, 3, 3), stride=2)
    index = 0
    for expansion, out, repeats, first_stride in config.blocks:
        for repeat in range(repeats):
            stride, wide = first_stride if repeat == 0 else 1, channels * expansion
            block = f"{at}.layer.{index}"
            if expansion > 1:
                yield VrcLayer(f"{block}.expand_1x1.convolution", (wide, channels, 1, 1))
            yield VrcLayer(f"{block}.conv_3x3.convolution", (wide, 1, 3, 3), stride=stride, depthwise=True)
            # The first block's input is the stem's, which has no int8 scale to be added in.
            residual = stride == 1 and channels == out and index > 0
            yield VrcLayer(
                f"{block}.reduce_1x1.convolution", (out, wide, 1, 1), relu6=False, projection=True, residual=residual
            )
            channels, index = out, index + 1
    yield VrcLayer(f"{at}.conv_1x1.convolution", (config.last_channels, channels, 1, 1))
    yield VrcLayer("model.vrc.pool", (1, config.last_channels, 1, 1))
    yield VrcLayer("model.vrc.fc1", (config.hidden_size, config.features))
    yield VrcLayer("model.vrc.fc2", (1, config.hidden_size), relu6=False)

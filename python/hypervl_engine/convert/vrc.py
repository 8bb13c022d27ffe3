"""The VRC's float layers to int8: batch norms folded, a scale an output channel, projections calibrated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hypervl_engine.config import VrcConfig
from hypervl_engine.convert.sources import FloatSource
from hypervl_engine.tensors import VrcLayer, vrc_layers

Array = NDArray[np.float32]
_RELU6_SCALE = 6.0 / 255.0
_CALIBRATION_IMAGES = 6


@dataclass
class FloatLayer:
    """One layer with its batch norm folded in."""

    spec: VrcLayer
    weight: Array  # spec.shape
    bias: Array  # (out)
    output_scale: float | None  # of a projection, when the source has it


def read_layers(source: FloatSource, config: VrcConfig) -> list[FloatLayer]:
    """The folded layers. CheckpointError when one is missing or has another shape."""
    layers = []
    for spec in vrc_layers(config):
        weight = source.read(f"{spec.name}.weight", spec.shape)
        outputs, block = spec.shape[:1], spec.name.removesuffix(".convolution")
        bias_name = f"{spec.name}.bias"
        bias = source.read(bias_name, outputs) if bias_name in source else np.zeros(outputs, np.float32)
        if f"{block}.normalization.weight" in source:
            gamma, beta, mean, variance = (
                source.read(f"{block}.normalization.{part}", outputs).astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = gamma / np.sqrt(np.maximum(variance, 0.0) + source.batch_norm_eps)
            weight = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
            bias = ((bias - mean) * factor + beta).astype(np.float32)
        elif bias_name not in source:
            source.shape(bias_name)  # raises: neither a bias nor a norm
        scale_name = f"{block}.output_scale"
        scale = float(source.read(scale_name, ())) if spec.projection and scale_name in source else None
        layers.append(FloatLayer(spec, weight, bias, scale if scale and scale > 0 else None))
    return layers


def quantize_layers(layers: list[FloatLayer], config: VrcConfig) -> dict[str, NDArray[np.generic]]:
    """The packed tensors of docs/checkpoint.md, "VRC"."""
    if any(layer.spec.projection and layer.output_scale is None for layer in layers):
        calibrate(layers, config)
    tensors: dict[str, NDArray[np.generic]] = {}
    in_scale = 1.0 / 128.0
    for layer in layers:
        rows = layer.weight.reshape(layer.weight.shape[0], -1).astype(np.float64)
        # A channel of zeros, or of tiny weights beside its bias, needs a scale in which the bias still fits int32.
        least = np.maximum(np.abs(layer.bias) / (in_scale * 2.0**28), 1e-8)
        scales = np.maximum(np.abs(rows).max(1) / 127.0, least).astype(np.float32)
        quantised = np.clip(np.rint(rows / scales[:, None]), -128, 127).astype(np.int8)
        name = layer.spec.name
        tensors[f"{name}.weight"] = quantised.reshape(layer.weight.shape)
        tensors[f"{name}.weight_scale"] = scales
        tensors[f"{name}.bias"] = layer.bias.astype(np.float32)
        if layer.spec.projection:
            assert layer.output_scale is not None
            tensors[f"{name}.output_scale"] = np.array(layer.output_scale, np.float32)
            in_scale = layer.output_scale
        else:
            in_scale = _RELU6_SCALE
    return tensors


def calibrate(layers: list[FloatLayer], config: VrcConfig, progress: Callable[[int], None] | None = None) -> None:
    """Sets the output scale of every projection from its largest value (residual sums included) on synthetic images."""
    x = np.stack([_synthetic_image(config.image_size, seed) for seed in range(_CALIBRATION_IMAGES)])
    block_input = x
    for index, layer in enumerate(layers):
        if layer.spec.name.startswith(("model.vrc.pool", "model.vrc.fc")):
            break
        starts_block = index > 0 and (layers[index - 1].spec.projection or index == 1)
        if starts_block:
            block_input = x
        x = _run(layer, x)
        if not layer.spec.projection:
            continue
        top = float(np.abs(x).max())
        if layer.spec.residual:
            x = x + block_input
            top = max(top, float(np.abs(x).max()))
        layer.output_scale = float(np.float32(max(top, 1e-3) / 127.0))


def _run(layer: FloatLayer, x: Array) -> Array:
    """(images, channels, side, side) -> the layer's output, after ReLU6 where it has one."""
    spec, stride = layer.spec, layer.spec.stride
    if spec.shape[2:] == (1, 1):
        out = np.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], x, optimize=True)
    else:
        side = (x.shape[2] - 1) // stride + 1
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((x.shape[0], spec.shape[0], side, side), np.float32)
        for dy in range(3):
            for dx in range(3):
                window = padded[
                    :, :, dy : dy + stride * (side - 1) + 1 : stride, dx : dx + stride * (side - 1) + 1 : stride
                ]
                tap = layer.weight[:, :, dy, dx]
                out += window * tap.reshape(1, -1, 1, 1) if spec.depthwise else np.einsum("oi,nihw->nohw", tap, window)
    out = out + layer.bias.reshape(1, -1, 1, 1)
    return np.asarray(np.clip(out, 0.0, 6.0), np.float32) if spec.relu6 else out


def _synthetic_image(side: int, seed: int) -> Array:
    """(3, side, side), (x - 128) / 128: blocks and lines of contrast as pages and photos have them, plus noise."""
    rng = np.random.default_rng(seed)
    image = np.full((3, side, side), rng.integers(60, 256), np.float32)
    for _ in range(24):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(1, max(2, side // 2), 2)
        image[:, top : top + height, left : left + width] = rng.integers(0, 256, (3, 1, 1))
    image += rng.normal(0.0, 8.0, image.shape).astype(np.float32)
    return (np.clip(image, 0.0, 255.0) - 128.0) / np.float32(128.0)

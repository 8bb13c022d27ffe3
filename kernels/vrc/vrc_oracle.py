"""The VRC's integer arithmetic in numpy, written from docs/checkpoint.md alone, and a random network to run it on.

Tensors are (h, w, channels) int64 of the integers' own values: u8 after ReLU6, int8 after a projection, x - 128 for the
image.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
RELU6_SCALE = 6 / 255


@dataclass
class Layer:
    """Weight (outputs, inputs of a group, kh, kw); scales, bias (outputs). `out_scale` of a projection, else None."""

    weight: npt.NDArray[np.int8]
    weight_scale: Floats
    bias: Floats
    stride: int = 1
    depthwise: bool = False
    out_scale: float | None = None
    residual: bool = False


def multiplier(scale: float) -> tuple[int, int]:
    """scale = m / 2^r with m in [2^30, 2^31)."""
    mantissa, exponent = math.frexp(scale)
    m = math.floor(mantissa * 2**31 + 0.5)
    if m == 2**31:
        m, exponent = 2**30, exponent + 1
    return (m, 31 - exponent) if 31 - exponent <= 62 else (2**30, 62)


def requantise(acc: Ints, scale: float) -> Ints:
    m, r = multiplier(scale)
    return (acc * m + (1 << (r - 1))) >> r


def accumulate(x: Ints, layer: Layer, in_scale: float) -> Ints:
    """Convolution with zero padding of (k - 1) / 2, plus the bias at scale in_scale * weight_scale."""
    k = layer.weight.shape[2]
    pad = k // 2
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    height = (x.shape[0] - 1) // layer.stride + 1
    width = (x.shape[1] - 1) // layer.stride + 1
    acc = np.zeros((height, width, layer.weight.shape[0]), np.int64)
    for ky in range(k):
        for kx in range(k):
            window = padded[
                ky : ky + height * layer.stride : layer.stride, kx : kx + width * layer.stride : layer.stride
            ][:height, :width]
            w = layer.weight[:, :, ky, kx].astype(np.int64)
            acc += window * w[:, 0] if layer.depthwise else window @ w.T
    bias: Ints = np.array(
        [
            math.floor(float(b) / (in_scale * float(s)) + 0.5)
            for b, s in zip(layer.bias, layer.weight_scale, strict=True)
        ]
    )
    return acc + bias


def run_layer(
    x: Ints, layer: Layer, in_scale: float, added: Ints | None = None, added_scale: float = 0.0, out_scale: float = 0.0
) -> Ints:
    """`out_scale` only for layers that are neither ReLU6 nor projection (the last linear)."""
    acc = accumulate(x, layer, in_scale)
    target = layer.out_scale or out_scale or RELU6_SCALE
    q = np.stack(
        [requantise(acc[..., c], in_scale * float(s) / target) for c, s in enumerate(layer.weight_scale)], axis=-1
    )
    if added is not None:
        q = q + requantise(added, added_scale / target)
    return np.clip(q, -128, 127) if layer.out_scale else np.clip(q, 0, 255)


def pool(features: Ints, weight: Ints) -> Ints:
    w = weight.reshape(-1, 1) + 1
    mean: Ints = (np.sum(w * features.reshape(-1, features.shape[-1]), axis=0) + w.sum() // 2) // w.sum()
    return mean


def random_layer(
    rng: np.random.Generator,
    outputs: int,
    inputs: int,
    k: int,
    *,
    stride: int = 1,
    depthwise: bool = False,
    spread: float = 1.5,
) -> Layer:
    """Weights of about He's size times `spread`, quantised to the full int8 range; half of the biases positive."""
    w = rng.normal(0, spread / math.sqrt(inputs * k * k), (outputs, inputs, k, k))
    scale = (np.abs(w).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    q = np.clip(np.round(w / scale[:, None, None, None]), -128, 127).astype(np.int8)
    return Layer(q, scale, rng.normal(0.2, 0.4, outputs).astype(np.float32), stride, depthwise)


@dataclass
class Network:
    """A MobileNetV2 with pooling and MLP: layers in order, without the pooling weight and the MLP."""

    layers: list[Layer]
    pool: Layer
    fc1: Layer
    fc2: Layer
    grid_size: int


def random_network(
    rng: np.random.Generator, stem: int, blocks: list[tuple[int, int, int, int]], last: int, hidden: int, grid_size: int
) -> Network:
    layers = [random_layer(rng, stem, 3, 3, stride=2)]
    channels = stem
    for expansion, outputs, repeats, first_stride in blocks:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            wide = channels * expansion
            if expansion > 1:
                layers.append(random_layer(rng, wide, channels, 1))
            layers.append(random_layer(rng, wide, 1, 3, stride=stride, depthwise=True))
            project = random_layer(rng, outputs, wide, 1)
            project.residual = stride == 1 and channels == outputs and len(layers) > 2
            project.out_scale = 0.05  # calibrated by the caller where it matters
            layers.append(project)
            channels = outputs
    layers.append(random_layer(rng, last, channels, 1))
    return Network(
        layers,
        random_layer(rng, 1, last, 1),
        random_layer(rng, hidden, last + 2, 1),
        random_layer(rng, 1, hidden, 1),
        grid_size,
    )

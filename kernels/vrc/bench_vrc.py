"""The layers of MobileNetV2 at 224 x 224 that cost most, and all of it, on one thread."""

import numpy as np
import pytest
from hypervl_engine import _testing
from pytest_benchmark.fixture import BenchmarkFixture

VARIANTS = [v for v in _testing.available_variants("vrc_pointwise") if v != "reference"]
RELU6 = 6 / 255
# t, c, n, s of MobileNetV2 1.0.
BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def layer(rng: np.random.Generator, kind: str, outputs: int, inputs: int) -> "_testing.VrcLayer":
    shape = {"stem": (outputs, 3, 3, 3), "depthwise": (outputs, 1, 3, 3), "pointwise": (outputs, inputs)}[kind]
    weight = rng.integers(-128, 128, shape).astype(np.int8)
    ones = np.ones(outputs, np.float32)
    return _testing.vrc_pack(kind, weight, 0.001 * ones, 0 * ones, RELU6, 0, RELU6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("pixels", "inputs", "outputs"), [(12544, 16, 96), (3136, 144, 24), (196, 384, 96), (49, 320, 1280)]
)
def test_bench_pointwise(benchmark: BenchmarkFixture, variant: str, pixels: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (pixels, inputs), dtype=np.uint8)
    benchmark(_testing.vrc_pointwise, variant, x, layer(rng, "pointwise", outputs, inputs), 0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("side", "channels", "stride"), [(112, 96, 2), (56, 144, 1), (7, 960, 1)])
def test_bench_depthwise(benchmark: BenchmarkFixture, variant: str, side: int, channels: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (side, side, channels), dtype=np.uint8)
    benchmark(_testing.vrc_depthwise, variant, x, layer(rng, "depthwise", channels, 1), stride, 0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("side", "stem", "last"), [(224, 32, 1280), (96, 16, 128)])
def test_bench_network(benchmark: BenchmarkFixture, variant: str, side: int, stem: int, last: int) -> None:
    """Everything up to the last feature map; at 96 pixels a net of the demo's size (channels halved, three stages)."""
    rng = np.random.default_rng(0)
    blocks = BLOCKS if stem == 32 else [(1, 8, 1, 1), (4, 16, 2, 2), (4, 24, 2, 2), (4, 32, 2, 2)]
    layers = []
    channels = stem
    for t, outputs, repeats, first_stride in blocks:
        for repeat in range(repeats):
            if t > 1:
                layers.append((layer(rng, "pointwise", t * channels, channels), 0))
            layers.append((layer(rng, "depthwise", t * channels, 1), first_stride if repeat == 0 else 1))
            layers.append((layer(rng, "pointwise", outputs, t * channels), 0))
            channels = outputs
    layers.append((layer(rng, "pointwise", last, channels), 0))
    first = layer(rng, "stem", stem, 3)
    image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)

    def network() -> None:
        x = _testing.vrc_stem(variant, image, first)
        for packed, stride in layers:
            if stride:
                x = _testing.vrc_depthwise(variant, x, packed, stride, 0)
            else:
                x = _testing.vrc_pointwise(variant, x.reshape(-1, x.shape[-1]), packed, 0).reshape(*x.shape[:2], -1)

    benchmark(network)

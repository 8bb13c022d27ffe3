"""VRC layers and a whole network: every variant equals the numpy oracle (vrc_oracle.py), which is near float torch."""

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st


def _load_oracle() -> ModuleType:
    """The oracle lies beside this file, which pytest imports without a package."""
    spec = importlib.util.spec_from_file_location("vrc_oracle", Path(__file__).with_name("vrc_oracle.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vrc_oracle"] = module
    spec.loader.exec_module(module)
    return module


oracle = _load_oracle()
VARIANTS = _testing.available_variants("vrc_pointwise")
RELU6 = oracle.RELU6_SCALE
Bytes = npt.NDArray[np.uint8]
seeds = st.integers(0, 2**32)


def padded(channels: int) -> int:
    return -(-channels // 16) * 16


def store(x: npt.NDArray[np.int64], zero_point: int, rng: np.random.Generator) -> Bytes:
    """Real values -> the kernels' layout; padded channels hold noise, which must not matter."""
    out = rng.integers(0, 256, (*x.shape[:-1], padded(x.shape[-1])), dtype=np.uint8)
    out[..., : x.shape[-1]] = x + zero_point
    return out


def pack(kind: str, layer: Any, in_scale: float, zero_point: int, out_scale: float) -> "_testing.VrcLayer":
    return _testing.vrc_pack(kind, layer.weight, layer.weight_scale, layer.bias, in_scale, zero_point, out_scale)


def extreme_layer(rng: np.random.Generator, outputs: int, inputs: int, k: int, low: bool, depthwise: bool = False) -> Any:
    """Weights at the ends of int8, biases and scales over orders of magnitude.

    low: with scales that requantise by a shift of 32 or less, which kernels do in another way than the usual ones.
    """
    layer = oracle.random_layer(rng, outputs, inputs, k, depthwise=depthwise)
    ends = rng.choice(np.array([-128, 127], np.int8), layer.weight.shape)
    layer.weight = np.where(rng.random(layer.weight.shape) < 0.3, ends, layer.weight)
    layer.weight_scale = (10.0 ** rng.uniform(-6, -0.5 if low else -1.0, outputs)).astype(np.float32)
    layer.bias = (rng.normal(0, 1, outputs) * layer.weight_scale * 10.0 ** rng.uniform(0, 3, outputs)).astype(np.float32)
    return layer


def amid(x: Bytes, filler: int) -> tuple[Bytes, Bytes]:
    """A copy of x in the middle of memory full of `filler`: what a kernel is given of a buffer, and all there is."""
    memory = np.full(x.size + 8192, filler, np.uint8)
    view = memory[4096:-4096].reshape(x.shape)
    view[...] = x
    return view, memory


def check_window(kernel: Any, x: Bytes, stride: int, begin: int, end: int, whole: Bytes) -> None:
    """Output lines [begin, end) from the input lines they read and no others, into memory for these lines only."""
    first, last = max(0, begin * stride - 1), min(len(x), (end - 1) * stride + 2)
    for filler in (0, 171):
        lines, _ = amid(x[first:last], filler)
        out, memory = amid(np.full_like(whole[begin:end], filler), filler)
        kernel(lines, begin=begin, end=end, first=first, in_height=len(x), out=out)
        np.testing.assert_array_equal(out, whole[begin:end])
        out[...] = filler
        assert (memory == filler).all()


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 21),
    w=st.integers(1, 21),
    outputs=st.sampled_from([1, 8, 16, 24, 32]),
    cut=st.integers(0, 10),
    low=st.booleans(),
    seed=seeds,
)
def test_stem(h: int, w: int, outputs: int, cut: int, low: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.choice(np.array([0, 1, 127, 128, 255], np.uint8), (h, w, 3))
    layer = extreme_layer(rng, outputs, 3, 3, low)
    layer.stride = 2
    expected = oracle.run_layer(image.astype(np.int64) - 128, layer, 1 / 128)
    packed = pack("stem", layer, 1 / 128, 128, RELU6)
    for variant in VARIANTS:
        split = min(cut, expected.shape[0])
        out = _testing.vrc_stem(variant, image, packed, 0, split)
        out[split:] = _testing.vrc_stem(variant, image, packed, split)[split:]
        np.testing.assert_array_equal(out[..., :outputs], expected, err_msg=variant)
        if split > 0:
            kernel = functools.partial(_testing.vrc_stem, variant, layer=packed)
            check_window(kernel, image, 2, seed % split, split, out)


@settings(max_examples=80, deadline=None)
@given(
    h=st.integers(1, 19),
    w=st.integers(1, 19),
    channels=st.sampled_from([1, 16, 24, 48, 64, 80, 112, 144]),
    stride=st.sampled_from([1, 2]),
    zero_point=st.sampled_from([0, 128]),
    cut=st.integers(0, 10),
    low=st.booleans(),
    seed=seeds,
)
def test_depthwise(h: int, w: int, channels: int, stride: int, zero_point: int, cut: int, low: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice(np.array([0, 1, 77, 254, 255]), (h, w, channels)) - zero_point
    layer = extreme_layer(rng, channels, 1, 3, low, depthwise=True)
    layer.stride = stride
    expected = oracle.run_layer(x, layer, 0.03)
    packed = pack("depthwise", layer, 0.03, zero_point, RELU6)
    stored = store(x, zero_point, rng)
    for variant in VARIANTS:
        split = min(cut, expected.shape[0])
        out = _testing.vrc_depthwise(variant, stored, packed, stride, zero_point, 0, split)
        out[split:] = _testing.vrc_depthwise(variant, stored, packed, stride, zero_point, split)[split:]
        np.testing.assert_array_equal(out[..., :channels], expected, err_msg=variant)
        if split > 0:
            kernel = functools.partial(_testing.vrc_depthwise, variant, layer=packed, stride=stride, in_zero_point=zero_point)
            check_window(kernel, stored, stride, seed % split, split, out)


@settings(max_examples=100, deadline=None)
@given(
    pixels=st.integers(1, 40),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 140),
    zero_point=st.sampled_from([0, 128]),
    projection=st.booleans(),
    residual=st.booleans(),
    cut=st.integers(0, 6),
    low=st.booleans(),
    seed=seeds,
)
def test_pointwise(
    pixels: int, inputs: int, outputs: int, zero_point: int, projection: bool, residual: bool, cut: int, low: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice(np.array([0, 1, 77, 254, 255]), (1, pixels, inputs)) - zero_point
    layer = extreme_layer(rng, outputs, inputs, 1, low)
    out_scale = 0.07 if projection else RELU6
    layer.out_scale = out_scale if projection else None
    residual = residual and projection
    added = rng.integers(-128, 128, (1, pixels, outputs)) if residual else None
    added_scale = float(out_scale * rng.choice([1.0, 0.3, 1.7, 20.0]))
    expected = oracle.run_layer(x, layer, 0.03, added, added_scale)[0]
    packed = pack("pointwise", layer, 0.03, zero_point, out_scale)
    stored = store(x, zero_point, rng)[0]
    extra = store(added, 128, rng)[0] if added is not None else None
    out_zero_point = 128 if projection else 0
    for variant in VARIANTS:
        split = min(cut, -(-pixels // 8))
        arguments = (variant, stored, packed, out_zero_point, extra, added_scale / out_scale)
        out = _testing.vrc_pointwise(*arguments, 0, split)
        out[split * 8 :] = _testing.vrc_pointwise(*arguments, split)[split * 8 :]
        np.testing.assert_array_equal(out[:, :outputs].astype(int) - out_zero_point, expected, err_msg=variant)
        assert (out[:, outputs:] == out_zero_point).all() or residual  # padded channels of a residual hold its noise
        # A range of pixels by itself, into the memory of its part of the residual.
        part = slice(*sorted((seed % (pixels + 1), min(pixels, cut * 8))))
        for filler in (0, 171):
            some, _ = amid(stored[part], filler)
            to, memory = amid(extra[part] if extra is not None else np.zeros_like(out[part]), filler)
            _testing.vrc_pointwise(variant, some, packed, out_zero_point, None if extra is None else to, added_scale / out_scale, out=to)
            np.testing.assert_array_equal(to, out[part])
            to[...] = filler
            assert (memory == filler).all()


@settings(max_examples=60, deadline=None)
@given(pixels=st.integers(1, 200), blocks=st.integers(1, 4), cut=st.integers(0, 4), seed=seeds)
def test_pool(pixels: int, blocks: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 256, (pixels, blocks * 16), dtype=np.uint8)
    weight = rng.choice(np.array([0, 1, 100, 255], np.uint8), (pixels, 16))
    expected = oracle.pool(features.astype(np.int64), weight[:, 0].astype(np.int64))
    for variant in VARIANTS:
        split = min(cut, blocks)
        out = _testing.vrc_pool(variant, features, weight, 0, split)
        out[split * 16 :] = _testing.vrc_pool(variant, features, weight, split)[split * 16 :]
        np.testing.assert_array_equal(out, expected, err_msg=variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pool_largest(variant: str) -> None:
    """The most pixels allowed, all at their largest: sums just below 2^31."""
    features = np.full((32768, 16), 255, np.uint8)
    assert (_testing.vrc_pool(variant, features, features, 0) == 255).all()


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-30, 1e9))
def test_multiplier(scale: float) -> None:
    m, r = _testing.vrc_multiplier(scale)
    assert (m, r) == oracle.multiplier(scale)
    assert 2**30 <= m < 2**31
    assert 1 <= r <= 62
    if scale > 2.0**-32:
        assert abs(m / 2**r - scale) <= scale * 2.0**-31


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_scales(bad: float) -> None:
    layer = oracle.random_layer(np.random.default_rng(0), 4, 8, 1)
    layer.weight_scale[2] = bad
    with pytest.raises(RuntimeError, match="expected a positive, finite weight scale"):
        pack("pointwise", layer, 0.03, 0, RELU6)


def test_overflow_is_an_error() -> None:
    layer = oracle.random_layer(np.random.default_rng(0), 4, 8, 1)
    layer.bias[1] = 1e12
    with pytest.raises(RuntimeError, match="channel 1 can reach an accumulator"):
        pack("pointwise", layer, 0.03, 0, RELU6)


def run_kernels(variant: str, network: Any, image: Bytes, sizes: tuple[int, int]) -> tuple[int, Bytes]:
    """The whole network on the kernels; returns fc2's byte and the last feature map."""
    packed = pack("stem", network.layers[0], 1 / 128, 128, RELU6)
    x = _testing.vrc_stem(variant, image, packed)
    scale, zero_point = RELU6, 0
    block_input, block_scale = x, scale
    for layer in network.layers[1:]:
        out_scale = layer.out_scale or RELU6
        out_zero = 128 if layer.out_scale else 0
        if layer.depthwise:
            x = _testing.vrc_depthwise(variant, x, pack("depthwise", layer, scale, zero_point, RELU6), layer.stride, zero_point)
        else:
            packed = pack("pointwise", layer, scale, zero_point, out_scale)
            extra = block_input.reshape(-1, block_input.shape[-1]) if layer.residual else None
            y = _testing.vrc_pointwise(variant, x.reshape(-1, x.shape[-1]), packed, out_zero, extra, block_scale / out_scale)
            x = y.reshape(*x.shape[:2], -1)
        scale, zero_point = out_scale, out_zero
        if layer.out_scale:
            block_input, block_scale = x, scale
    features = x.reshape(-1, x.shape[-1])
    weight = _testing.vrc_pointwise(variant, features, pack("pointwise", network.pool, RELU6, 0, RELU6), 0)
    pooled = _testing.vrc_pool(variant, features, weight)
    last = network.layers[-1].weight.shape[0]
    vector = np.zeros((1, padded(last + 2)), np.uint8)
    vector[0, :last] = pooled[:last]
    vector[0, last : last + 2] = sizes
    hidden = _testing.vrc_pointwise(variant, vector, pack("pointwise", network.fc1, RELU6, 0, RELU6), 0)
    final = pack("pointwise", network.fc2, RELU6, 0, 1 / (network.grid_size - 1))
    return int(_testing.vrc_pointwise(variant, hidden, final, 0)[0, 0]), x


def run_oracle(network: Any, image: Bytes, sizes: tuple[int, int]) -> tuple[int, npt.NDArray[np.int64]]:
    x = oracle.run_layer(image.astype(np.int64) - 128, network.layers[0], 1 / 128)
    scale = block_scale = RELU6
    block_input = x
    for layer in network.layers[1:]:
        x = oracle.run_layer(x, layer, scale, block_input if layer.residual else None, block_scale)
        scale = layer.out_scale or RELU6
        if layer.out_scale:
            block_input, block_scale = x, scale
    pooled = oracle.pool(x, oracle.run_layer(x, network.pool, RELU6))
    vector = np.concatenate([pooled, np.array(sizes)]).reshape(1, 1, -1)
    hidden = oracle.run_layer(vector, network.fc1, RELU6)
    return int(oracle.run_layer(hidden, network.fc2, RELU6, out_scale=1 / (network.grid_size - 1))[0, 0, 0]), x


def run_float(network: Any, image: Bytes, calibrate: bool) -> torch.Tensor:
    """The same network in float64 torch from the dequantised weights; with `calibrate` sets the projections' scales."""

    def convolve(x: torch.Tensor, layer: Any) -> torch.Tensor:
        scale = layer.weight_scale[:, None, None, None].astype(np.float64)
        w = torch.from_numpy(layer.weight.astype(np.float64) * scale)
        b = torch.from_numpy(layer.bias.astype(np.float64))
        groups = w.shape[0] if layer.depthwise else 1
        return torch.nn.functional.conv2d(x, w, b, stride=layer.stride, padding=w.shape[2] // 2, groups=groups)

    x = torch.from_numpy((image.astype(np.float64) - 128) / 128).permute(2, 0, 1)[None]
    x = torch.nn.functional.relu6(convolve(x, network.layers[0]))
    block_input = x
    for layer in network.layers[1:]:
        y = convolve(x, layer)
        if layer.out_scale:
            x = y + block_input if layer.residual else y
            if calibrate:
                layer.out_scale = float(x.abs().max()) / 127
            block_input = x
        else:
            x = torch.nn.functional.relu6(y)
    return x[0].permute(1, 2, 0)


NETWORKS = {
    "small": (16, [(1, 8, 1, 1), (4, 16, 2, 2), (3, 24, 2, 2), (6, 24, 1, 1)], 64, 24, 19),
    "odd": (7, [(1, 9, 2, 2), (2, 9, 2, 1), (6, 33, 2, 2)], 41, 5, 4),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("size", [96, 37])
def test_network(name: str, size: int) -> None:
    """Every variant equals the oracle, layer sums and all, and is near the float network."""
    rng = np.random.default_rng(size)
    network = oracle.random_network(rng, *NETWORKS[name])
    # A smooth image: what thumbnails look like, and what keeps activations in range.
    coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.float64)
    image = np.kron(coarse, np.ones((13, 13, 1)))[:size, :size].astype(np.uint8)
    features = run_float(network, image, calibrate=True).numpy()
    index, expected = run_oracle(network, image, (200, 37))
    for variant in VARIANTS:
        found, x = run_kernels(variant, network, image, (200, 37))
        assert found == index
        np.testing.assert_array_equal(x[..., : expected.shape[-1]], expected, err_msg=variant)
    # Eight bits a tensor: each of some ten layers adds rounding noise of about 1 % of its range.
    error = np.sqrt(np.mean((expected * RELU6 - features) ** 2) / np.mean(features**2))
    assert error < 0.1

"""exp, sigmoid, tanh, erf and byte dots of kernels/common, against float64 and numpy."""

import math

import numpy as np
import pytest
from hypervl_engine import _testing

VARIANTS = _testing.available_variants("math")


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32)


def sweep(low: float, high: float, count: int = 200_003) -> np.ndarray:
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30, low, high], np.float32)
    return (
        np.concatenate([special, np.linspace(low, high, count), rng.normal(size=20_001)])
        .clip(low, high)
        .astype(np.float32)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_exp_is_within_two_ulp(variant: str) -> None:
    x = sweep(-104, 88)
    y = _testing.math(variant, "exp", x).astype(np.float64)
    exact = np.exp(x.astype(np.float64))
    ulp = np.spacing(np.maximum(exact, 2.0**-126).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(y - exact) / ulp) <= 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_exp_at_the_edges(variant: str) -> None:
    x = np.array([0.0, -0.0, -104.0, -1e9, -np.inf, 89.0, 3e38, np.inf, np.nan], np.float32)
    y = _testing.math(variant, "exp", x)
    assert y[0] == y[1] == 1
    assert np.array_equal(bits(y[2:5]), [0, 0, 0])
    assert np.all(np.isposinf(y[5:8]))
    assert np.isnan(y[8])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("function", ["tanh", "erf", "sigmoid"])
def test_bounded_functions(variant: str, function: str) -> None:
    x = sweep(-20, 20)
    y = _testing.math(variant, function, x)
    wide = x.astype(np.float64)
    exact = {
        "tanh": lambda: np.tanh(wide),
        "erf": lambda: np.array([math.erf(v) for v in wide]),
        "sigmoid": lambda: 1 / (1 + np.exp(-wide)),
    }[function]()
    assert np.max(np.abs(y - exact)) <= 2e-7


@pytest.mark.parametrize("variant", VARIANTS)
def test_bounded_functions_saturate(variant: str) -> None:
    far = np.array([12.0, 1e5, 3e38, np.inf], np.float32)
    for function in ("tanh", "erf"):
        assert np.all(_testing.math(variant, function, far) == 1)
        assert np.all(_testing.math(variant, function, -far) == -1)
        zeros = _testing.math(variant, function, np.array([0.0, -0.0], np.float32))
        assert np.array_equal(bits(zeros), [0, 0x80000000])
        assert np.isnan(_testing.math(variant, function, np.array([np.nan], np.float32)))[0]
    huge = np.array([3e38, np.inf], np.float32)
    assert np.all(_testing.math(variant, "sigmoid", huge) == 1)
    assert np.all(_testing.math(variant, "sigmoid", -huge) == 0)


@pytest.mark.parametrize("variant", VARIANTS[1:])
@pytest.mark.parametrize("function", ["exp", "tanh", "erf", "sigmoid"])
def test_variants_agree_to_the_bit(variant: str, function: str) -> None:
    rng = np.random.default_rng(1)
    any_bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([sweep(-110, 95), any_bits[~np.isnan(any_bits)]])
    reference = _testing.math("reference", function, x)
    assert np.array_equal(bits(_testing.math(variant, function, x)), bits(reference))


@pytest.mark.parametrize("variant", VARIANTS)
def test_byte_dots_do_not_saturate(variant: str) -> None:
    rng = np.random.default_rng(2)
    pairs = np.concatenate([rng.integers(0, 256, (1000, 4)), np.repeat([[255], [127], [128]], 4, axis=1)]).astype(np.uint8)
    y = _testing.math(variant, "dot_bytes", pairs.view(np.float32).ravel())
    assert np.array_equal(y, (pairs.astype(np.int64) * pairs.view(np.int8)).sum(axis=1))

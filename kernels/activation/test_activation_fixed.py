"""Activations of the integer arithmetic: a numpy oracle on the committed tables, exactly, and their distance from float64."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypervl_engine import _testing

from kernels.common import fixed_oracle as fixed

KINDS = {"gelu_tanh": "GeluTanh", "gelu_erf": "GeluErf", "silu": "Silu", "quick_gelu": "QuickGelu"}
FLOAT = {
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu_erf": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "relu": torch.relu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


def table(kind: str) -> tuple[int, np.ndarray]:
    """Shift and coefficients (4, 32) as the header has them."""
    text = (Path(__file__).parent / "fixed_tables.h").read_text()
    body = text.split(f"k{KINDS[kind]}Tail = {{")[1].split("}};")[0]
    numbers = [int(n) for n in re.findall(r"-?\d+", body)]
    return numbers[0], np.array(numbers[1:]).reshape(4, 32)


def oracle(kind: str, x: np.ndarray) -> np.ndarray:
    positive = np.maximum(x, 0)
    if kind == "relu":
        return positive
    shift, coefficients = table(kind)
    a = np.minimum(np.abs(x), fixed.MOST)
    segment, t = a >> shift, (a << (15 - shift)) & 32767
    inside = segment < 32
    row = coefficients[:, np.minimum(segment, 31)]
    h = row[3]
    for c in row[2::-1]:
        h = ((h * t + (1 << 14)) >> 15) + c
    return positive - np.where(inside, (h + 1) >> 1, 0)


def run(kind: str, x: np.ndarray) -> np.ndarray:
    out = fixed.view(x)
    for cut in ((0, 1), (1, len(x))):
        _testing.activation("fixed", kind, out, out, cut)
    return fixed.ints(out)


def values() -> np.ndarray:
    """Everything near zero, and all magnitudes."""
    rng = np.random.default_rng(0)
    near = np.arange(-(20 << 15), 20 << 15, 5)
    far = rng.integers(fixed.LEAST, fixed.MOST, 4000) >> rng.integers(0, 31, 4000)
    x = np.concatenate([near, far, [fixed.LEAST, fixed.MOST, 0, -1]])
    return x[: len(x) // 4 * 4].reshape(4, -1)


@pytest.mark.parametrize("kind", [*KINDS, "relu"])
def test_equals_the_oracle(kind: str) -> None:
    np.testing.assert_array_equal(run(kind, values()), oracle(kind, values()))


@pytest.mark.parametrize("kind", [*KINDS, "relu"])
def test_within_two_units_of_float64(kind: str) -> None:
    x = values()
    exact = FLOAT[kind](torch.from_numpy(fixed.floats(x))).numpy() * 2**15
    assert np.abs(run(kind, x) - exact).max() <= 2.1


def test_silu_mul() -> None:
    rng = np.random.default_rng(1)
    gate = values()
    up = rng.integers(fixed.LEAST, fixed.MOST, gate.shape) >> rng.integers(0, 31, gate.shape)
    out = np.zeros(gate.shape, np.float32)
    _testing.silu_mul("fixed", fixed.view(gate), fixed.view(up), out, (0, len(gate)))
    expected = fixed.saturate((oracle("silu", gate) * up + (1 << 14)) >> 15)
    np.testing.assert_array_equal(fixed.ints(out), expected)


def test_add_saturates() -> None:
    a = np.array([[fixed.MOST, fixed.LEAST, 5]])
    b = np.array([[1, -1, -7]])
    out = np.zeros(a.shape, np.float32)
    _testing.add("fixed", fixed.view(a), fixed.view(b), out, (0, 1))
    np.testing.assert_array_equal(fixed.ints(out), [[fixed.MOST, fixed.LEAST, -2]])

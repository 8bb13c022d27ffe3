"""Activations against float64, within the contract's 2e-7 + 4 ulp, and bit for bit between variants and cuts."""

import numpy as np
import pytest
import torch
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("activation")


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


EXACT = {
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu_erf": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "relu": torch.relu,
    "quick_gelu": quick_gelu,
}


def run(variant: str, kind: str, x: np.ndarray, cuts: list[tuple[int, int]] | None = None) -> np.ndarray:
    out = np.full_like(x, np.nan)
    for cut in cuts or [(0, len(x))]:
        _testing.activation(variant, kind, x, out, cut)
    return out


def tolerance(exact: np.ndarray) -> np.ndarray:
    return 2e-7 + 4 * np.spacing(np.abs(exact).astype(np.float32))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", EXACT)
def test_accuracy_over_the_range(variant: str, kind: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 200_000), np.linspace(-1, 1, 50_000), [-1e4, 1e4, 0.0, 1e-40, -1e-40]])
    x = x.astype(np.float32)[None]
    exact = EXACT[kind](torch.from_numpy(x).double()).numpy()
    assert np.all(np.abs(run(variant, kind, x) - exact) <= tolerance(exact))


@pytest.mark.parametrize("variant", VARIANTS[1:])
@pytest.mark.parametrize("kind", EXACT)
def test_variants_agree_to_the_bit(variant: str, kind: str) -> None:
    any_bits = np.random.default_rng(0).integers(0, 2**32, (1, 100_003), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(any_bits), any_bits, np.float32(0.5))
    assert np.array_equal(run(variant, kind, x).view(np.uint32), run("reference", kind, x).view(np.uint32))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", EXACT)
def test_extremes_do_not_crash_and_plus_infinity_stays(variant: str, kind: str) -> None:
    y = run(variant, kind, np.array([[np.inf, -np.inf, np.nan, 3e38, -3e38]], np.float32))[0]
    assert y[0] == np.inf
    assert np.isnan(y[2])
    assert y[3] == np.float32(3e38)
    assert y[4] == 0


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 6), cols=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_silu_mul(rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gate, up = (rng.normal(size=(2, rows, cols)) * 4).astype(np.float32)
    exact = torch.nn.functional.silu(torch.from_numpy(gate).double()).numpy() * up
    for variant in VARIANTS:
        whole = np.full_like(gate, np.nan)
        _testing.silu_mul(variant, gate, up, whole)
        assert np.all(np.abs(whole - exact) <= 2e-7 * np.abs(up) + 4 * np.spacing(np.abs(exact).astype(np.float32)))
        cut = np.full_like(gate, np.nan)
        for row in range(rows):
            _testing.silu_mul(variant, gate, up, cut, (row, row + 1))
        assert np.array_equal(cut, whole)
        if variant == "reference":
            reference = whole
        assert np.array_equal(whole.view(np.uint32), reference.view(np.uint32))
        for target in (gate.copy(), up.copy()):
            aliased = (target, up) if np.array_equal(target, gate) else (gate, target)
            _testing.silu_mul(variant, *aliased, target)
            assert np.array_equal(target, whole)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", EXACT)
def test_cuts_and_in_place_change_nothing(variant: str, kind: str) -> None:
    x = np.random.default_rng(1).normal(size=(7, 37)).astype(np.float32)
    whole = run(variant, kind, x)
    assert np.array_equal(run(variant, kind, x, [(3, 7), (0, 3)]), whole)
    _testing.activation(variant, kind, x, x)
    assert np.array_equal(x, whole)

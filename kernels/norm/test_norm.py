"""LayerNorm and RMSNorm: torch in float64, and bit for bit between variants, cuts and the contract's own order."""

import numpy as np
import pytest
import torch
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("norm")


def run(
    variant: str,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    eps: float = 1e-6,
    cuts: list[tuple[int, int]] | None = None,
) -> np.ndarray:
    out = np.full_like(x, np.nan)
    for cut in cuts or [(0, len(x))]:
        _testing.norm(variant, x, weight, bias, eps, out, cut)
    return out


def make(
    rows: int, cols: int, seed: int, layer: bool, size: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, cols)) * size).astype(np.float32)
    x[:, 0] *= 50  # an outlier channel
    weight = rng.normal(1, 0.3, cols).astype(np.float32)
    return x, weight, rng.normal(size=cols).astype(np.float32) if layer else None


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    cols=st.integers(1, 300),
    seed=st.integers(0, 2**31),
    layer=st.booleans(),
    size=st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_matches_float64_and_every_variant(rows: int, cols: int, seed: int, layer: bool, size: float) -> None:
    x, weight, bias = make(rows, cols, seed, layer, size)
    wide = torch.from_numpy(x).double()
    if bias is not None:
        exact = torch.nn.functional.layer_norm(
            wide, (cols,), torch.from_numpy(weight).double(), torch.from_numpy(bias).double(), 1e-6
        )
    else:
        exact = torch.nn.functional.rms_norm(wide, (cols,), torch.from_numpy(weight).double(), 1e-6)
    reference = run("reference", x, weight, bias)
    # Errors of a sum of n terms in 16 lanes grow with n / 16; LayerNorm's mean adds |x| / deviation.
    deviation = np.sqrt(
        (x - x.mean(1, keepdims=True) * layer).astype(np.float64).var(1, keepdims=True) * layer + 1e-6 * layer
    )
    steps = cols / 16 + 12
    # Adding the bias rounds the result itself, however small the weight.
    scale = np.abs(weight) * (np.abs(exact.numpy()).max() + 1) + np.abs(exact.numpy())
    if layer:
        scale = scale + np.abs(weight) * np.abs(x).max(1, keepdims=True) / deviation
    assert np.all(np.abs(reference - exact.numpy()) <= steps * 2.0**-24 * scale + 1e-12)
    for variant in VARIANTS[1:]:
        assert np.array_equal(run(variant, x, weight, bias).view(np.uint32), reference.view(np.uint32))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", [False, True])
def test_cuts_and_in_place_change_nothing(variant: str, layer: bool) -> None:
    x, weight, bias = make(9, 77, 3, layer)
    whole = run(variant, x, weight, bias)
    assert np.array_equal(run(variant, x, weight, bias, cuts=[(4, 9), (0, 1), (1, 4)]), whole)
    _testing.norm(variant, x, weight, bias, 1e-6, x)
    assert np.array_equal(x, whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sums_follow_the_contract(variant: str) -> None:
    """RMSNorm recomputed step by step in float32 in norm.h's order (fma by float64: exact products)."""
    x, weight, _ = make(1, 40, 5, False)
    lanes = np.zeros(16, np.float32)
    for i, v in enumerate(np.pad(x[0], (0, 8)).astype(np.float64)):
        lanes[i % 16] = np.float32(v * v + np.float64(lanes[i % 16]))
    for width in (8, 4, 2, 1):
        lanes = lanes[:width] + lanes[width : 2 * width]
    inverse = np.float32(1) / np.sqrt(lanes[0] / np.float32(40) + np.float32(1e-6))
    assert np.array_equal(run(variant, x, weight, None)[0], x[0] * inverse * weight)


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_and_zero_rows(variant: str) -> None:
    cols = 35
    weight, bias = np.ones(cols, np.float32), np.full(cols, 0.5, np.float32)
    assert np.array_equal(run(variant, np.zeros((2, cols), np.float32), weight, None), np.zeros((2, cols)))
    assert np.array_equal(run(variant, np.full((2, cols), 4.0, np.float32), weight, bias), np.full((2, cols), 0.5))

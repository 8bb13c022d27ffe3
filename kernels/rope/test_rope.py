"""Rotary embedding and the q/k norm before it: transformers' Qwen3 in float64, and every variant bit for bit."""

import numpy as np
import torch
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

VARIANTS = _testing.available_variants("rope")


def tables(positions: int, head_dim: int, theta: float = 1e6) -> tuple[np.ndarray, np.ndarray]:
    angle = np.arange(positions)[:, None] / theta ** (np.arange(head_dim // 2) * 2 / head_dim)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 5),
    heads=st.integers(1, 4),
    half=st.sampled_from([1, 3, 8, 16, 20, 32, 36, 64, 100, 128]),
    position=st.integers(0, 40),
    norm=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_matches_transformers_and_every_variant(
    rows: int, heads: int, half: int, position: int, norm: bool, seed: int
) -> None:
    head_dim = 2 * half
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, heads * head_dim)) * 3).astype(np.float32)
    weight = rng.normal(1, 0.3, head_dim).astype(np.float32) if norm else None
    cos, sin = tables(64, head_dim)

    wide = torch.from_numpy(x).double().view(1, rows, heads, head_dim).transpose(1, 2)
    if weight is not None:
        wide = torch.nn.functional.rms_norm(wide, (head_dim,), torch.from_numpy(weight).double(), 1e-6)
    c, s = (torch.from_numpy(np.concatenate([t, t], 1)[position : position + rows]).double()[None] for t in (cos, sin))
    exact = apply_rotary_pos_emb(wide, wide, c, s)[0].transpose(1, 2).reshape(rows, heads * head_dim).numpy()

    results = []
    for variant in VARIANTS:
        whole = x.copy()
        _testing.rope(variant, whole, weight, 1e-6, cos, sin, position, heads)
        cut = x.copy()
        _testing.rope(variant, cut, weight, 1e-6, cos, sin, position, heads, (rows // 2, rows))
        _testing.rope(variant, cut, weight, 1e-6, cos, sin, position, heads, (0, rows // 2))
        assert np.array_equal(cut, whole)
        there = x.copy()  # tables that hold the rows of these positions and nothing else
        part = slice(position, position + rows)
        _testing.rope(variant, there, weight, 1e-6, cos[part].copy(), sin[part].copy(), 0, heads)
        assert np.array_equal(there, whole)
        results.append(whole)
    # Three roundings a product, and those of the sum of squares (head_dim / 16 + 6 of half weight).
    bound = (head_dim / 32 + 10) * 2.0**-24 * (np.abs(wide.numpy()).max() * 2 + 1e-6)
    assert np.max(np.abs(results[0] - exact)) <= bound
    for other in results[1:]:
        assert np.array_equal(other.view(np.uint32), results[0].view(np.uint32))

"""Activations of one tile's MLP (256 tokens x 4096) and silu * up of a prefill chunk."""

import numpy as np
import pytest
from hypervl_engine import _testing

X = np.random.default_rng(0).normal(size=(256, 4096)).astype(np.float32)


@pytest.mark.parametrize("variant", _testing.available_variants("activation"))
@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu_erf", "silu", "relu"])
def test_activation(benchmark, variant: str, kind: str) -> None:  # type: ignore[no-untyped-def]
    benchmark(_testing.activation, variant, kind, X, np.empty_like(X))


@pytest.mark.parametrize("variant", _testing.available_variants("activation"))
def test_silu_mul(benchmark, variant: str) -> None:  # type: ignore[no-untyped-def]
    benchmark(_testing.silu_mul, variant, X, X, np.empty_like(X))

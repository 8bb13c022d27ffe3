"""Norms of one tile (256 tokens) at the Large tower's and the language model's width."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("norm"))
@pytest.mark.parametrize(("cols", "layer"), [(1024, True), (2048, False)])
def test_norm(benchmark, variant: str, cols: int, layer: bool) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).normal(size=(256, cols)).astype(np.float32)
    weight = np.ones(cols, np.float32)
    out = np.empty_like(x)
    benchmark.extra_info["gb_moved"] = 2 * x.nbytes / 1e9
    benchmark(_testing.norm, variant, x, weight, weight if layer else None, 1e-6, out)

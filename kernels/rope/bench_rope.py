"""q/k norm and rotation of a prefill chunk at the Qwen3-1.7B shape (128 tokens, 24 heads of 128)."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("rope"))
def test_rope(benchmark, variant: str) -> None:  # type: ignore[no-untyped-def]
    x = np.ones((128, 24 * 128), np.float32)
    weight = np.ones(128, np.float32)
    table = np.full((128, 64), 0.7, np.float32)
    benchmark(_testing.rope, variant, x, weight, 1e-6, table, table, 0, 24)

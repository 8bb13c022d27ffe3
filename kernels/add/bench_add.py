"""The residual addition of one tile (256 tokens x 1024)."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("add"))
def test_add(benchmark, variant: str) -> None:  # type: ignore[no-untyped-def]
    a = np.ones((256, 1024), np.float32)
    benchmark(_testing.add, variant, a, a, np.empty_like(a))

"""quantize at the width of a prefill chunk."""

from typing import Any

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("quantize"))
@pytest.mark.parametrize("bits", [16, 8])
def test_bench_quantize(benchmark: Any, variant: str, bits: int) -> None:
    x = np.random.default_rng(0).standard_normal((128, 2048)).astype(np.float32)
    benchmark(_testing.quantize, x, 128, bits, variant)

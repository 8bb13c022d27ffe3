"""One 256-patch tile of 16-pixel patches."""

import numpy as np
import pytest
from hypervl_engine import _testing
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("variant", _testing.available_variants("patchify"))
def test_bench_tile(benchmark: BenchmarkFixture, variant: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    table = rng.integers(-32768, 32768, (3, 257)).astype(np.int16)
    benchmark(_testing.patchify, variant, image, table, 0, 0, 16, 16, 16)

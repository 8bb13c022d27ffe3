"""A 12-megapixel photo halved, on one thread: what preparing a phone picture costs."""

import numpy as np
import pytest
from hypervl_engine import _testing
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("variant", [v for v in _testing.available_variants("resize_horizontal") if v != "reference"])
@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_bench_half_of_12_megapixels(benchmark: BenchmarkFixture, variant: str, direction: str) -> None:
    height, width = 3000, 4000
    if direction == "vertical":
        width //= 2  # the horizontal pass runs first
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = width if direction == "horizontal" else height
    first, weights = _testing.resize_taps(size, 2000 if direction == "horizontal" else 1500, "bicubic")
    run = _testing.resize_horizontal if direction == "horizontal" else _testing.resize_vertical
    benchmark(run, variant, image, first, weights)

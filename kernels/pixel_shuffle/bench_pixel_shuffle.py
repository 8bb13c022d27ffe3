"""Pixel shuffle of one tile of the Large tower (16 x 16 tokens of 1024)."""

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("pixel_shuffle"))
def test_pixel_shuffle(benchmark, variant: str) -> None:  # type: ignore[no-untyped-def]
    x = np.ones((256, 1024), np.float32)
    benchmark(_testing.pixel_shuffle, variant, x, 16, 16, 2, np.empty((64, 4096), np.float32))

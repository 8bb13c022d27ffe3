"""What comes before the vision tower: resizing a 12-megapixel photo, and choosing its scale."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)


def test_vrc(benchmark, load_engine, photo):
    session = load_engine(16).new_session()
    small = np.ascontiguousarray(photo[:224, :224])
    assert 0 < benchmark(session.vrc_scale, small) <= 1


@pytest.mark.parametrize("scale", [0.5, 0.1])
def test_resize_and_normalise(benchmark, load_engine, photo, scale):
    session = load_engine(16).new_session()
    assert benchmark(session.pixel_values, photo, scale).shape[0] == 3

"""Training sees the engine's own pixels: tools/train/preprocess.py against the compiled preprocessing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypervl_engine import load
from hypervl_engine.demo.render import sample

SOURCE = Path(__file__).parents[1] / "tools/train/preprocess.py"


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """tools/train/preprocess.py, which needs no torch."""
    spec = importlib.util.spec_from_file_location("train_preprocess", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(12))
def test_training_pixels_are_the_engines(training: ModuleType, seed: int) -> None:
    engine = load(progress=False)
    session = engine.new_session()
    picture = sample(seed).image
    for scale in (1.0, 0.35, 0.5, 0.65):
        got = session.pixel_values(np.asarray(picture), scale)
        want = training.pixel_values(picture, training.scaled_size(*picture.size, scale))
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=1.2e-7)  # one unit in the last place of a value near 1

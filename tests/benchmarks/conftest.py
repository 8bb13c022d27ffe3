"""The model that the workload benchmarks run: layers of the published shape with random weights, or --benchmark-checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypervl_engine.engine import Engine, load
from numpy.typing import NDArray

from tools.experiments.checkpoints import full_checkpoint

_FOLDER = Path(__file__).resolve().parents[2] / "build" / "experiments"
_LAYERS = 2  # of every stack: time a layer is that of the whole model


@pytest.fixture(scope="session")
def load_engine(pytestconfig: pytest.Config) -> Callable[[int], Engine]:
    """activation bits -> the engine, on all the cores this process may use."""
    given = pytestconfig.getoption("--benchmark-checkpoint")
    checkpoint = Path(given) if given else full_checkpoint(_FOLDER, layers=_LAYERS)

    @cache
    def loaded(activation_bits: int) -> Engine:
        return load(checkpoint, activation_bits=activation_bits, progress=False)

    return loaded


@pytest.fixture(params=[16, 8], ids=["a16", "a8"])
def engine(request: pytest.FixtureRequest, load_engine: Callable[[int], Engine]) -> Engine:
    """With 16-bit and with 8-bit activations."""
    return load_engine(request.param)


@pytest.fixture
def planes(engine: Engine) -> int:
    """Byte dot products that one multiplication takes."""
    return engine.activation_bits // 8


@pytest.fixture
def tile(engine: Engine) -> NDArray[np.uint8]:
    """(tile, tile, 3) uint8 pixels."""
    size = engine.config.tiling.tile_size
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)

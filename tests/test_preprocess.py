"""Resizing, normalising, padding and tiling beside transformers' SigLIP processor (Pillow backend) and plain numpy."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypervl_engine.engine import Engine, load
from hypervl_engine.errors import CancelledError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tools.reference import write_random

UNIT = 32  # patch_size 16 * pixel_shuffle 2
TILE = 64


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load(write_random(tmp_path_factory.mktemp("tiny") / "checkpoint"), threads=2, progress=False)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 400), scale=st.sampled_from([0.1, 0.35, 0.5, 0.77, 1.0]))
def test_pixel_values(engine: Engine, height: int, width: int, scale: float) -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    rgb = picture(height, width, height * 1000 + width)
    values = engine.new_session().pixel_values(rgb, scale)
    h, w = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    assert values.shape == (3, -(-h // UNIT) * UNIT, -(-w // UNIT) * UNIT)
    processor = SiglipImageProcessorPil(size={"height": h, "width": w}, resample=Image.Resampling.BICUBIC)
    theirs = np.asarray(processor(Image.fromarray(rgb), return_tensors="np")["pixel_values"][0])
    assert np.abs(values[:, :h, :w] - theirs).max() <= 1 / 255
    assert (values[:, h:, :] == 0).all()
    assert (values[:, :, w:] == 0).all()


@pytest.mark.parametrize("shape", [(2500, 3000), (4000, 700)])
def test_resizing_can_be_cancelled(engine: Engine, shape: tuple[int, int]) -> None:
    session = engine.new_session()
    rgb = picture(*shape)
    expected = session.pixel_values(rgb, 0.9)
    done = threading.Event()

    def cancel() -> None:
        while not done.is_set():
            session.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        with pytest.raises(CancelledError):
            session.pixel_values(rgb, 0.9)
    finally:
        done.set()
        canceller.join()
    np.testing.assert_array_equal(session.pixel_values(rgb, 0.9), expected)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), scale=st.floats(0.1, 1.0))
def test_layout(engine: Engine, height: int, width: int, scale: float) -> None:
    plan = engine.model.plan_image(height, width, scale)
    h, w = plan["resized"]
    assert (h, w) == (max(1, int(np.floor(height * scale + 0.5))), max(1, int(np.floor(width * scale + 0.5))))
    ph, pw = -(-h // UNIT) * UNIT, -(-w // UNIT) * UNIT
    assert plan["tile_grid"] == (-(-ph // TILE), -(-pw // TILE))
    assert plan["tiles"] == plan["tile_grid"][0] * plan["tile_grid"][1]
    assert plan["visual_tokens"] == (ph // UNIT) * (pw // UNIT)
    ids = engine.model.image_token_ids(height, width, scale)
    assert (ids == engine.config.image_token_id).sum() == plan["visual_tokens"]


def test_tiles_are_encoded_one_by_one(engine: Engine) -> None:
    """A tile's features are those of the tile alone, and edge tiles keep their size."""
    rgb = picture(100, 150)
    session = engine.new_session()
    tiles = session.encode_tower(rgb, 1.0, "large")
    assert [len(t) for t in tiles] == [16, 16, 8, 16, 16, 8]  # patches: 64x64, 64x64, 64x32; the lower row is 36 + padding = 64 high
    alone = session.encode_tower(np.ascontiguousarray(rgb[:64, 64:128]), 1.0, "large")
    np.testing.assert_array_equal(tiles[1], alone[0])


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(0, 5, 1.0), (5, 0, 1.0), (-1, 5, 1.0), (5, 5, 0.0), (5, 5, 1.5), (5, 5, float("nan"))],
)
def test_sizes_and_scales_out_of_range(engine: Engine, height: int, width: int, scale: float) -> None:
    with pytest.raises(ValueError, match="got"):
        engine.model.plan_image(height, width, scale)


@pytest.mark.parametrize(
    "rgb",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["two axes", "four channels", "float", "empty"],
)
def test_arrays_that_are_no_image(engine: Engine, rgb: Any) -> None:
    with pytest.raises(ValueError, match="image must"):
        engine.new_session().vrc_scale(rgb)

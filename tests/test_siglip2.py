"""The vision tower beside transformers' SiglipVisionModel in float32, fed with the dequantised weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypervl_engine.engine import load

from tools.reference import relative_l2, siglip, write_random

TOLERANCE = 1e-3  # relative L2 of a token's features


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both published towers at full depth, under a small text model."""
    folder = tmp_path_factory.mktemp("published") / "checkpoint"
    return write_random(folder, vision="hypervl-1.8b", tiling={"edge_positions": "interpolate"})


@pytest.mark.parametrize("branch", ["base", "large"])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (224, 224)], ids=["256 tokens", "196 tokens"])
def test_tower_equals_transformers(published: Path, branch: str, height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    smooth = rng.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    rgb = np.clip(smooth + rng.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)
    session = load(published, threads=2, context_length=512, progress=False).new_session()
    (ours,) = session.encode_tower(rgb, 1.0, branch)
    pixel_values = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    model = siglip(published, branch)
    with torch.no_grad():
        theirs = model(pixel_values, interpolate_pos_encoding=height != 256).last_hidden_state[0].numpy()
    assert ours.shape == theirs.shape
    assert relative_l2(ours, theirs).max() < TOLERANCE

"""Image embeddings of several tiles, in each order and with thumbnails, beside transformers' tower and torch, tile by tile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypervl_engine.engine import load
from PIL import Image

from tools.reference import dequantised, relative_l2, siglip, write_random

PATCH, UNIT = 16, 32
CASES: dict[str, dict[str, Any]] = {
    "tile order": {"tile_separator_id": 3, "row_separator_id": 4},
    "raster": {"token_order": "raster", "row_separator_id": 4},
    "thumbnail last": {"use_thumbnail": True, "thumbnail_separator_id": 5},
    "thumbnail first, raster": {"use_thumbnail": True, "thumbnail_position": "first", "token_order": "raster"},
    "thumbnail last, raster": {"use_thumbnail": True, "token_order": "raster", "row_separator_id": 4},
    "positions resized for larger tiles": {"tile_size": 96},
    "positions of edge tiles resized": {"edge_positions": "interpolate"},
}


def positions(table: torch.Tensor, tile: int, h: int, w: int, interpolate: bool) -> torch.Tensor:
    """(h * w, C): the position embedding of a tile of h x w patches."""
    side = round(table.shape[0] ** 0.5)
    grid = table.T.reshape(1, -1, side, side)
    size = (h, w) if interpolate else (tile // PATCH, tile // PATCH)
    if size != (side, side):
        grid = F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
    return grid[0, :, :h, :w].flatten(1).T


def tile_embeds(folder: Path, tiling: dict[str, Any], pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    """(h / 32, w / 32, text hidden) of one tile's pixels (3, h, w)."""
    weights = dequantised(folder)
    tower = siglip(folder, "large")
    h, w = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    with torch.no_grad():
        x = tower.embeddings.patch_embedding(torch.from_numpy(pixels)[None]).flatten(2).transpose(1, 2)
        table = weights["model.vision_tower.large.embeddings.position_embedding.weight"]
        x = x + positions(table, tiling["tile_size"], h, w, tiling["edge_positions"] == "interpolate")
        x = tower.post_layernorm(tower.encoder(inputs_embeds=x).last_hidden_state)[0]
        x = x.reshape(h // 2, 2, w // 2, 2, -1).permute(0, 2, 1, 3, 4).flatten(2)
        name = "model.projector.large.linear_"
        x = F.gelu(F.linear(x, weights[name + "1.weight"], weights[name + "1.bias"]))
        return F.linear(x, weights[name + "2.weight"], weights[name + "2.bias"])


def expected(folder: Path, pixels: np.ndarray[Any, Any], thumbnail: np.ndarray[Any, Any] | None) -> tuple[torch.Tensor, list[int]]:
    """Embeddings in token order, and input ids with 1 for every image token."""
    tiling = json.loads((folder / "config.json").read_text())["tiling"]
    side = tiling["tile_size"]
    rows = range(0, pixels.shape[1], side)
    columns = range(0, pixels.shape[2], side)
    grid = [[tile_embeds(folder, tiling, pixels[:, y : y + side, x : x + side]) for x in columns] for y in rows]
    embeds: list[torch.Tensor] = []
    ids: list[int] = []

    def separator(name: str) -> None:
        if tiling.get(name) is not None:
            ids.append(tiling[name])

    def add(values: torch.Tensor) -> None:
        embeds.append(values.flatten(0, 1))
        ids.extend([1] * embeds[-1].shape[0])

    first = tiling["thumbnail_position"] == "first"
    if thumbnail is not None and first:
        add(tile_embeds(folder, tiling, thumbnail))
        separator("thumbnail_separator_id")
    if tiling["token_order"] == "raster":
        whole = torch.cat([torch.cat(row, 1) for row in grid], 0)
        for i, row in enumerate(whole):
            if i:
                separator("row_separator_id")
            add(row[None])
    else:
        for i, tiles in enumerate(grid):
            if i:
                separator("row_separator_id")
            for j, tile in enumerate(tiles):
                if j:
                    separator("tile_separator_id")
                add(tile)
    if thumbnail is not None and not first:
        separator("thumbnail_separator_id")
        add(tile_embeds(folder, tiling, thumbnail))
    return torch.cat(embeds), ids


@pytest.mark.parametrize("case", CASES)
def test_embeddings_and_ids(tmp_path: Path, case: str) -> None:
    folder = write_random(tmp_path / "checkpoint", tiling=CASES[case])
    engine = load(folder, threads=2, context_length=512, progress=False)
    session = engine.new_session()
    height, width = 150, 110
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    pixels = session.pixel_values(rgb, 1.0)
    thumbnail = None
    if CASES[case].get("use_thumbnail"):
        small = Image.fromarray(rgb).resize((round(width * 64 / height), 64), Image.Resampling.BICUBIC)
        thumbnail = session.pixel_values(np.array(small), 1.0)
    embeds, ids = expected(folder, pixels, thumbnail)
    ours = session.encode(rgb, 1.0, "large")
    assert ours.shape == embeds.shape
    assert relative_l2(ours, embeds.numpy()).max() < 1e-3
    own_ids = engine.model.image_token_ids(height, width, 1.0)
    assert np.where(own_ids == engine.config.image_token_id, 1, own_ids).tolist() == ids
    plan = engine.model.plan_image(height, width, 1.0)
    assert plan["thumbnail"] == (thumbnail is not None)
    assert plan["visual_tokens"] == len(embeds)


def test_no_thumbnail_of_a_single_tile(tmp_path: Path) -> None:
    folder = write_random(tmp_path / "checkpoint", tiling={"use_thumbnail": True})
    plan = load(folder, threads=1, progress=False).model.plan_image(50, 64, 1.0)
    assert (plan["tiles"], plan["thumbnail"]) == (1, False)

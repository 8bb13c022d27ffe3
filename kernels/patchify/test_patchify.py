"""patchify against numpy indexing, every variant, whatever the cut."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("patchify")


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    corner=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    patch=st.sampled_from([1, 2, 3, 8, 14, 16]),
    cut=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_against_numpy(
    variant: str, size: tuple[int, int], corner: tuple[int, int], grid: tuple[int, int], patch: int, cut: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    table = rng.integers(-32768, 32768, (3, 257)).astype(np.int16)
    grid_h, grid_w = grid

    canvas = np.full((corner[0] + grid_h * patch + size[0], corner[1] + grid_w * patch + size[1], 3), 256)
    canvas[: size[0], : size[1]] = image
    tile = canvas[corner[0] :, corner[1] :][: grid_h * patch, : grid_w * patch]
    values = np.stack([table[c][tile[..., c]] for c in range(3)])  # (3, h, w)
    expected = values.reshape(3, grid_h, patch, grid_w, patch).transpose(1, 3, 0, 2, 4).reshape(grid_h * grid_w, -1)

    split = min(cut, grid_h)
    head = _testing.patchify(variant, image, table, *corner, *grid, patch, 0, split)
    tail = _testing.patchify(variant, image, table, *corner, *grid, patch, split, grid_h)
    np.testing.assert_array_equal(head[: split * grid_w], expected[: split * grid_w])
    np.testing.assert_array_equal(tail[split * grid_w :], expected[split * grid_w :])

    # The rows of patches from `split` on, from a copy of what of the tile lies in the image; for a tile beyond it, of nothing.
    if split < grid_h:
        top, left = corner[0] + split * patch, corner[1]
        rectangle = image[top : top + (grid_h - split) * patch, left : left + grid_w * patch].copy()
        part = _testing.patchify(variant, rectangle, table, 0, 0, grid_h - split, grid_w, patch)
        np.testing.assert_array_equal(part, expected[split * grid_w :])

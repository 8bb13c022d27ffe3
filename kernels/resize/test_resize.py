"""resize_taps and both passes against Pillow's Image.resize, bit for bit, and the variants against the reference."""

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

VARIANTS = _testing.available_variants("resize_horizontal")
PILLOW_CHOOSES_ORDER = int(PIL.__version__.split(".")[0]) >= 13
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
Pixels = npt.NDArray[np.uint8]


def engine_resize(variant: str, image: Pixels, height: int, width: int, name: str) -> Pixels:
    """Both passes in Pillow's order, each in two cuts."""
    passes = [(False, width), (True, height)]
    if PILLOW_CHOOSES_ORDER and _testing.resize_vertical_first(*image.shape[:2], height, width):
        passes.reverse()
    for vertical, size in passes:
        first, weights = _testing.resize_taps(image.shape[0 if vertical else 1], size, name)
        rows = size if vertical else image.shape[0]
        resize_pass = _testing.resize_vertical if vertical else _testing.resize_horizontal
        head = resize_pass(variant, image, first, weights, 0, rows // 3)
        tail = resize_pass(variant, image, first, weights, rows // 3, rows)
        image = np.concatenate([head[: rows // 3], tail[rows // 3 :]])
    return image


def noise(seed: int, height: int, width: int) -> Pixels:
    """Random pixels, half of them extremes: overshoots of the cubic are clamped on both ends."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    extremes = rng.integers(0, 2, pixels.shape, dtype=np.uint8) * 255
    return np.where(rng.random((height, width, 1)) < 0.5, pixels, extremes).astype(np.uint8)


sizes = st.one_of(st.integers(1, 8), st.integers(1, 120), st.integers(1, 700))


@settings(max_examples=120, deadline=None)
@given(sizes, sizes, sizes, sizes, st.sampled_from(sorted(FILTERS)), st.integers(0, 2**32))
def test_equals_pillow(height: int, width: int, new_height: int, new_width: int, name: str, seed: int) -> None:
    image = noise(seed, height, width)
    expected = np.asarray(Image.fromarray(image).resize((new_width, new_height), FILTERS[name]))
    for variant in VARIANTS:
        if variant == "reference" and height * new_width + new_height * new_width > 200_000:
            continue  # the plain loops are slow, and the others are equal to Pillow already
        np.testing.assert_array_equal(
            engine_resize(variant, image, new_height, new_width, name), expected, err_msg=variant
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("size", "new_size"), [((1, 10000), (1, 37)), ((3000, 1), (17, 1)), ((1, 1), (300, 200)), ((5, 700), (700, 5))]
)
def test_extreme_aspects(variant: str, size: tuple[int, int], new_size: tuple[int, int]) -> None:
    image = noise(1, *size)
    expected = np.asarray(Image.fromarray(image).resize(new_size[::-1], Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(engine_resize(variant, image, *new_size, "bicubic"), expected)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(sorted(FILTERS)))
def test_taps_stay_inside(in_size: int, out_size: int, name: str) -> None:
    first, weights = _testing.resize_taps(in_size, out_size, name)
    assert first.min() >= 0
    assert first.max() + weights.shape[1] <= in_size
    # Each tap is rounded by at most half a unit.
    assert np.abs(weights.sum(axis=1, dtype=np.int64) - 2**22).max() <= weights.shape[1] / 2


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (-1, 5), (2**24 + 1, 5)])
def test_bad_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(RuntimeError, match=r"expected sizes in 1 \.\. "):
        _testing.resize_taps(*sizes, "bicubic")


@pytest.mark.parametrize("variant", VARIANTS)
def test_siglip_processor(variant: str) -> None:
    """transformers' processor (its Pillow backend) within 1/255 after normalisation to mean 0.5, std 0.5."""
    image = noise(2, 301, 217)
    processor = SiglipImageProcessorPil(size={"height": 224, "width": 224}, resample=Image.Resampling.BICUBIC)
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = (engine_resize(variant, image, 224, 224, "bicubic") / 255.0 - 0.5) / 0.5
    assert np.abs(ours - expected).max() <= 1 / 255

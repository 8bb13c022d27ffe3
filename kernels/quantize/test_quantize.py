"""quantize and quantize_i16 against numpy, and every variant against the reference to the bit."""

import numpy as np
import numpy.typing as npt
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

VARIANTS = _testing.available_variants("quantize")
Quantized = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int32]]


def values_of(q: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int32]:
    """(rows, padded_cols * bits / 8) planes -> (rows, padded_cols) integers."""
    if bits == 8:
        return q.view(np.int8).astype(np.int32)
    padded = q.shape[1] // 2
    return 256 * q[:, :padded].view(np.int8).astype(np.int32) + q[:, padded:]


def grouped(x: npt.NDArray[np.generic], group_size: int) -> npt.NDArray[np.generic]:
    """(rows, cols) -> (rows, groups, group_size), padded with zeros."""
    padded = -(-x.shape[1] // group_size) * group_size
    full = np.zeros((x.shape[0], padded), x.dtype)
    full[:, : x.shape[1]] = x
    return full.reshape(x.shape[0], -1, group_size)


def check_planes(result: Quantized, cols: int, group_size: int, bits: int) -> npt.NDArray[np.int32]:
    """Padding is zero and both sums are exact; returns the values (rows, groups, group_size)."""
    q, _, sums = result
    values = values_of(q, bits)
    assert not values[:, cols:].any()
    by_group = values.reshape(len(values), -1, group_size)
    np.testing.assert_array_equal(sums[..., 0], by_group.sum(-1))
    np.testing.assert_array_equal(sums[..., 1], (by_group >> 8).sum(-1) if bits == 16 else by_group.sum(-1))
    return by_group


def check_against_numpy(x: npt.NDArray[np.float32], result: Quantized, group_size: int, bits: int) -> None:
    values = check_planes(result, x.shape[1], group_size, bits)
    limit = np.float32(32767 if bits == 16 else 127)
    groups = grouped(x, group_size)
    m = np.abs(groups).max(-1)
    live = m >= np.float32(1e-30)
    safe = np.where(live, m, np.float32(1))
    scale = np.where(live, safe / limit, np.float32(0))
    np.testing.assert_array_equal(result[1], scale)
    rounded = np.rint(groups * (limit / safe)[..., None]).clip(-limit, limit)
    np.testing.assert_array_equal(values, np.where(live[..., None], rounded, 0))


def same_bits(a: Quantized, b: Quantized) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left.view(np.uint8), right.view(np.uint8))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), group_size=st.sampled_from([32, 64, 128, 256, 384, 512]), bits=st.sampled_from([8, 16]))
def test_quantize_matches_numpy(variant: str, data: st.DataObject, group_size: int, bits: int) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 1100)))
    scale = data.draw(st.sampled_from([1e-38, 1e-31, 1e-3, 1.0, 1e4, 1e38]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = (rng.standard_normal(shape) * scale).clip(-3e38, 3e38).astype(np.float32)
    x[rng.random(shape) < 0.1] = 0.0
    x[rng.random(shape) < 0.02] *= -8.0 if scale < 1e37 else 1.0
    result = _testing.quantize(x, group_size, bits, variant)
    check_against_numpy(x, result, group_size, bits)
    same_bits(result, _testing.quantize(x, group_size, bits, "reference"))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_ties_extremes_and_tiny_groups(variant: str, bits: int) -> None:
    limit = 32767 if bits == 16 else 127
    x = np.zeros((4, 96), np.float32)
    x[0, :32] = np.arange(32, dtype=np.float32) + 0.5  # exact ties once the group's maximum is the limit
    x[0, 31] = -limit
    x[1] = np.float32(np.finfo(np.float32).max) * np.where(np.arange(96) % 2, 1, -1).astype(np.float32)
    x[2, :32] = 9.9e-31  # below the threshold: zeros and scale 0
    x[2, 32:64] = 1.1e-30
    x[3] = -0.0
    result = _testing.quantize(x, 32, bits, variant)
    check_against_numpy(x, result, 32, bits)
    values = values_of(result[0], bits)
    np.testing.assert_array_equal(values[0, :6], [0, 2, 2, 4, 4, 6])
    assert abs(values[1]).min() == limit
    assert not values[2, :32].any()
    assert values[2, 32] == limit


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_group_that_is_not_finite_gives_a_nan_scale(variant: str, bits: int, bad: float) -> None:
    x = np.ones((1, 128), np.float32)
    x[0, 40] = bad
    result = _testing.quantize(x, 32, bits, variant)
    values = check_planes(result, 128, 32, bits)
    assert not values[0, 1].any()
    np.testing.assert_array_equal(np.isnan(result[1][0]), [False, True, False, False])
    same_bits(result, _testing.quantize(x, 32, bits, "reference"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_cut_into_ranges(variant: str) -> None:
    x = np.random.default_rng(0).standard_normal((7, 100)).astype(np.float32)
    whole = _testing.quantize(x, 64, 16, variant)
    parts = [_testing.quantize(x, 64, 16, variant, begin, end) for begin, end in [(0, 3), (3, 3), (3, 7)]]
    np.testing.assert_array_equal(np.concatenate([parts[0][0][:3], parts[2][0][3:]]), whole[0])
    assert (parts[1][0] == 0xA5).all()  # an empty range writes nothing
    assert (parts[0][0][3:] == 0xA5).all()


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(
    x=hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=200)),
    group_size=st.sampled_from([32, 64, 128, 256, 384, 512]),
)
def test_quantize_i16_keeps_every_value(variant: str, x: npt.NDArray[np.int16], group_size: int) -> None:
    scale = np.float32(1 / 510)
    result = _testing.quantize_i16(x, scale, group_size, variant)
    np.testing.assert_array_equal(check_planes(result, x.shape[1], group_size, 16), grouped(x, group_size))
    assert (result[1] == scale).all()
    same_bits(result, _testing.quantize_i16(x, scale, group_size, "reference"))

"""Attention of the integer arithmetic: a numpy oracle, exactly, whole and in parts; and its distance from float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.common import fixed_oracle as fixed
from kernels.kv_store.kv_oracle import heads_first, padded
from kernels.kv_store.test_kv_store_fixed import store, to_integers

CHUNK = 256
LOG2_E = 1549082005
EXP2 = (14416650, 56093236, 259075314, 744150338, 1073741824)
LEAST_EXPONENT = -128


def exp2(x: np.ndarray) -> np.ndarray:
    """2^x with 30 fraction bits."""
    f = x & 32767
    p = np.full_like(x, EXP2[0])
    for c in EXP2[1:]:
        p = fixed.mul15(p, f) + c
    return fixed.shift_down(p, -(x >> 15))


def query(q: np.ndarray, scale: float) -> tuple[np.ndarray, int]:
    """One row and head -> integers and their exponent."""
    mantissa, exponent = fixed.scalar(scale)
    down = (mantissa * LOG2_E).bit_length() - 31
    lift = 31 - int(fixed.row_width(q))
    values = fixed.mul31(q << lift, (mantissa * LOG2_E) >> down)
    return np.clip(fixed.round_down(values, 16), -32767, 32767), exponent - 30 + down + 47 - lift - 15


def one_row(q: np.ndarray, k: tuple[np.ndarray, ...], v: tuple[np.ndarray, ...], scale: float) -> np.ndarray:
    """q (head_dim) over k, v: integers (keys, head_dim), mantissas and exponents (keys) of the keys it sees."""
    integers, exponent = query(q, scale)
    sums, sums_exponent, total, top = np.zeros(len(q), np.int64), LEAST_EXPONENT, 0, 0
    doublings = before = 0
    for chunk, start in enumerate(range(0, len(k[0]), CHUNK)):
        keys, k_mantissa, k_exponent = (a[start : start + CHUNK] for a in k)
        values, v_mantissa, v_exponent = (a[start : start + CHUNK] for a in v)
        doublings, before = chunk.bit_length(), doublings
        scores = fixed.shift_down(fixed.mul15(keys @ integers, k_mantissa), -(30 + exponent + k_exponent))
        grown = int(scores.max() >> 15) + 1
        grown = grown if chunk == 0 else max(grown, top)
        rescale, top = (0 if chunk == 0 else grown - top), grown
        p = exp2(fixed.saturate(scores - fixed.shift_down(grown, -15)))
        total = int(fixed.shift_down(total, rescale + doublings - before)) + (int((p >> 8).sum()) >> doublings)
        products = fixed.shift_down(fixed.mul15(p, v_mantissa), v_exponent.max() - v_exponent)
        down = max(0, int(fixed.row_width(products)) - 15)
        weights = np.minimum(fixed.round_down(products, down), 32767)
        e = LEAST_EXPONENT if products.max() == 0 else down + int(v_exponent.max()) - 15
        old = sums_exponent - rescale
        sums_exponent = max(old + doublings - before, e + doublings, LEAST_EXPONENT)
        sums = fixed.shift_down(sums, sums_exponent - old) + fixed.shift_down(weights @ values, sums_exponent - e)
    spare = 31 - total.bit_length()
    factor = min(fixed.MOST, (1 << 61) // (total << spare))
    return fixed.round_down(fixed.mul31(sums, factor), doublings - 7 - spare - sums_exponent)


def oracle(q: np.ndarray, k: np.ndarray, v: np.ndarray, kv_heads: int, heads: int, position: int, causal: bool, scale: float) -> np.ndarray:
    """Activations q (rows, heads * head_dim), k and v (keys, kv_heads * head_dim)."""
    sides = [to_integers(heads_first(x, kv_heads)) for x in (k, v)]
    out = np.empty_like(q)
    head_dim = q.shape[1] // heads
    for row in range(len(q)):
        seen = position + row + 1 if causal else len(k)
        for head in range(heads):
            cut = slice(head * head_dim, (head + 1) * head_dim)
            pair = [tuple(a[head // (heads // kv_heads), :seen] for a in s) for s in sides]
            out[row, cut] = one_row(q[row, cut], *pair, scale)
    return out


def run(q: np.ndarray, k: np.ndarray, v: np.ndarray, kv_heads: int, heads: int, position: int, causal: bool, scale: float,
        parts: tuple[int, ...] = ()) -> np.ndarray:  # fmt: skip
    """parts: where the keys are cut, multiples of 256."""
    head_dim, capacity = k.shape[1] // kv_heads, (len(k) + 15) // 16 * 16
    caches = np.zeros((2, kv_heads, capacity // 16, 64 + 16 * padded(head_dim)), np.uint8)
    store(k, v, 0, *caches, head_dim)
    out = fixed.view(np.full_like(q, 5))
    state = np.zeros((len(q), heads, 2), np.float32)
    bounds = [0, *parts, len(k)]
    for begin, end in pairwise(bounds):
        part = [np.ascontiguousarray(c[:, begin // 16 : (end + 15) // 16]) for c in caches]
        _testing.attention("fixed", fixed.view(q), *part, head_dim, 8, 16, heads, position, end, causal, scale, out,
                           key_begin=begin, first=begin == 0, last=end == len(k), state=state)  # fmt: skip
    return fixed.ints(out)


def make(seed: int, rows: int, keys: int, kv_heads: int, heads: int, head_dim: int, size: float) -> tuple[np.ndarray, ...]:
    """Queries, keys and values of standard deviation `size`; some positions much larger, some zero."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(n, h * head_dim)) * size for n, h in ((rows, heads), (keys, kv_heads), (keys, kv_heads)))
    v *= np.exp2(rng.integers(-6, 6, (keys, 1)))
    k[rng.integers(0, keys)] *= 20
    k[rng.integers(0, keys)] = 0
    v[rng.integers(0, keys)] = 0
    return fixed.activations(q), fixed.activations(k), fixed.activations(v)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_equals_the_oracle(data: st.DataObject) -> None:
    rows, kv_heads, group = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    head_dim, causal = data.draw(st.sampled_from([8, 32, 48, 72, 128])), data.draw(st.booleans())
    keys = rows + data.draw(st.sampled_from([0, 1, 15, 240, 300, 800]))
    size = data.draw(st.sampled_from([0.0, 1e-3, 0.3, 4.0, 300.0, 60000.0]))
    q, k, v = make(data.draw(st.integers(0, 2**31)), rows, keys, kv_heads, kv_heads * group, head_dim, size)
    shape = (kv_heads, kv_heads * group, keys - rows, causal, float(np.float32(head_dim**-0.5)))
    expected = oracle(q, k, v, *shape)
    np.testing.assert_array_equal(run(q, k, v, *shape), expected)
    cuts = tuple(sorted(data.draw(st.sets(st.sampled_from(range(CHUNK, 1 << 11, CHUNK)), max_size=3))))
    np.testing.assert_array_equal(run(q, k, v, *shape, parts=tuple(c for c in cuts if c < keys)), expected)


@pytest.mark.parametrize("keys", [17, 256, 4096])
@pytest.mark.parametrize("sink", [False, True])
def test_distance_from_float64_of_the_same_keys_and_values(keys: int, sink: bool) -> None:
    """With a sink, the first key takes nearly all and has a small value, as in language models: the others do not starve."""
    rng = np.random.default_rng(keys)
    rows, head_dim = 8, 128
    q, k, v = (fixed.activations(rng.normal(size=(n, head_dim))) for n in (rows, keys, keys))
    if sink:
        q[:, 0] = 8 << 15
        k[0, 0] = 16 << 15  # 11 above the others, 16 in base 2
        v[0] >>= 6
    got = fixed.floats(run(q, k, v, 1, 1, 0, False, head_dim**-0.5))
    sides = [to_integers(heads_first(x, 1)) for x in (k, v)]
    wide_k, wide_v = (a[0] * (m[0] * np.exp2(e[0]))[:, None] for a, m, e in sides)
    scores = fixed.floats(q) @ wide_k.T * head_dim**-0.5
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    exact = p @ wide_v
    output_rounding = 0.5 * 2.0**-15 * np.sqrt(head_dim)
    assert (np.linalg.norm(got - exact, axis=1) <= 5e-4 * np.linalg.norm(exact, axis=1) + output_rounding).all()


def test_caches_of_16_bits_are_left_alone() -> None:
    q = fixed.view(np.ones((1, 16)))
    out = fixed.view(np.full((1, 16), 9))
    caches = np.zeros((2, 1, 1, 64 + 16 * 16 * 2), np.uint8)
    _testing.attention("fixed", q, *caches, 16, 16, 16, 1, 0, 1, True, 0.25, out)
    assert (fixed.ints(out) == 9).all()

"""Attention against torch in float64, and bit for bit between variants, cuts, cache sizes, splits of a prefill, parts of keys and heads."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.kv_store.kv_oracle import FORMATS, LIMITS, heads_first, padded, rounded, to_integers

VARIANTS = _testing.available_variants("attention")
CHUNK, RUN = 256, 32
# attention.h's table: (bits of the cache, of the activations) -> limits of q and w, dims of a run.
ARITHMETIC = {(16, 16): (8191, 8191, 32), (16, 8): (8191, 8191, 32), (8, 16): (32767, 32767, 512), (8, 8): (127, 255, 512)}


@dataclass
class Case:
    """Queries at positions position .. position + rows - 1 (causal), keys 0 .. keys - 1."""

    heads: int
    kv_heads: int
    head_dim: int
    rows: int
    keys: int
    causal: bool
    bits: int
    activation_bits: int
    seed: int = 0
    size: float = 1.0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.position = self.keys - self.rows if self.causal else 0
        self.q = (rng.normal(size=(self.rows, self.heads * self.head_dim)) * self.size).astype(np.float32)
        self.k, self.v = rng.normal(size=(2, self.keys, self.kv_heads * self.head_dim)).astype(np.float32)
        self.scale = 1 / math.sqrt(self.head_dim)

    def cache(self, extra: int = 0, fill: int = 0x7B) -> tuple[np.ndarray, np.ndarray]:
        """fill: every byte of what is not written."""
        blocks = (self.keys + 15) // 16 + extra
        k_cache = np.full((self.kv_heads, blocks, _testing.kv_block_bytes(self.head_dim, self.bits)), fill, np.uint8)
        v_cache = k_cache.copy()
        _testing.kv_store("reference", self.k, self.v, 0, k_cache, v_cache, self.head_dim, self.bits)
        return k_cache, v_cache

    def run(
        self,
        variant: str,
        extra: int = 0,
        first: int = 0,
        last: int | None = None,
        cuts: list[int] | None = None,
        fill: int = 0x7B,
    ) -> np.ndarray:
        """Rows first .. last of the queries; the units cut at `cuts`."""
        q = np.ascontiguousarray(self.q[first:last])
        out = np.full_like(q, np.nan)
        units = self.heads * ((len(q) + 15) // 16)
        edges = [0, *(c % (units + 1) for c in cuts or []), units]
        edges.sort()
        k_cache, v_cache = self.cache(extra, fill)
        for begin, end in pairwise(edges):
            _testing.attention(
                variant,
                q,
                k_cache,
                v_cache,
                self.head_dim,
                self.bits,
                self.activation_bits,
                self.heads,
                self.position + first,
                self.keys,
                self.causal,
                self.scale,
                out,
                (begin, end),
            )
        return out

    def run_in_parts(self, variant: str, key_cuts: list[int], head_cuts: list[int], more_rows: int) -> np.ndarray:
        """A call for each part of the keys and of the K/V heads, each over a copy of its part of the cache and nothing else.

        more_rows: keys that are there beyond those the last row sees, for causal rows.
        """
        group = self.heads // self.kv_heads
        keys = [0, *sorted(CHUNK * c for c in {c % max(1, (self.keys + 255) // CHUNK) for c in key_cuts} - {0}), self.keys]
        kv_heads = [0, *sorted(c % (self.kv_heads + 1) for c in head_cuts), self.kv_heads]
        k_cache, v_cache = self.cache()
        out = np.full_like(self.q, np.nan)
        state = np.full((self.rows, self.heads, 2), np.nan, np.float32)
        rng = np.random.default_rng(self.seed)
        rows = self.rows - more_rows
        for begin, end in pairwise(keys):
            blocks = slice(begin // 16, (end + 15) // 16)
            for first_head, last_head in pairwise(kv_heads):
                if first_head == last_head:
                    continue
                part = slice(first_head, last_head)
                heads = (last_head - first_head) * group
                k, v = k_cache[part, blocks].copy(), v_cache[part, blocks].copy()
                cut = int(rng.integers(0, heads * ((rows + 15) // 16) + 1))
                for units in ((cut, heads * ((rows + 15) // 16)), (0, cut)):
                    _testing.attention(
                        variant,
                        self.q[:rows],
                        k,
                        v,
                        self.head_dim,
                        self.bits,
                        self.activation_bits,
                        heads,
                        self.position,
                        end,
                        self.causal,
                        self.scale,
                        out[:rows],
                        units,
                        first_head=first_head * group,
                        key_begin=begin,
                        first=begin == 0,
                        last=end == self.keys,
                        state=state[:rows],
                    )
        return out[:rows]

    def of_rounded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, K and V as the kernel sees them: (heads, rows or keys, head_dim) in float64."""
        group = self.heads // self.kv_heads
        q, scales = to_integers(heads_first(self.q, self.heads), ARITHMETIC[self.bits, self.activation_bits][0])
        k, v = (np.repeat(rounded(x, self.kv_heads, self.bits), group, axis=0) for x in (self.k, self.v))
        return q * scales[..., None].astype(np.float64), k, v

    def of_given(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same before any rounding."""
        group = self.heads // self.kv_heads
        q, k, v = (heads_first(x, len(x[0]) // self.head_dim).astype(np.float64) for x in (self.q, self.k, self.v))
        return q, np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)

    def mask(self) -> np.ndarray:
        """(rows, keys): which keys a row sees."""
        seen = np.ones((self.rows, self.keys), bool)
        return np.tril(seen, self.position) if self.causal else seen

    def exact(self, operands: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        q, k, v = (torch.from_numpy(x) for x in operands)
        out = torch.nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=torch.from_numpy(self.mask()), scale=self.scale
        )
        return out[0].transpose(0, 1).reshape(self.rows, -1).numpy()

    def bound(self, operands: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """How far the kernel may be from `exact(of_rounded)`, element by element.

        Weights w = p * s_V are off by half a step of their run's scale (and a rounding of float32), each times the integers of V. All
        else is float32: a score's rounding error shifts its weight by as much, relatively; sums over keys add theirs.
        """
        q, k, v = operands
        group, limit = self.heads // self.kv_heads, ARITHMETIC[self.bits, self.activation_bits][1]
        integers, scales = to_integers(heads_first(self.v, self.kv_heads), LIMITS[self.bits])
        integers, scales = (np.repeat(x, group, axis=0) for x in (np.abs(integers), scales.astype(np.float64)))
        scores = np.where(self.mask(), q @ k.transpose(0, 2, 1) * self.scale, -np.inf)
        p = np.exp(scores - scores.max(axis=2, keepdims=True))
        p /= p.sum(axis=2, keepdims=True)
        w = p * scales[:, None, :]
        off = np.zeros_like(q)
        for begin in range(0, self.keys, RUN):
            part = slice(begin, begin + RUN)
            step = w[:, :, part].max(axis=2, initial=0) / limit
            off += (0.5 + limit * 2.0**-22) * step[..., None] * (self.mask()[None, :, part] @ integers[:, part])
        norms = np.linalg.norm(q, axis=2).max() * np.linalg.norm(k, axis=2).max()
        relative = 2.0**-24 * (8 * norms * self.scale + self.keys / 8 + 64)
        off += relative * (p @ np.abs(v)) + 1e-30
        return off.transpose(1, 0, 2).reshape(self.rows, -1)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


cases = st.builds(
    lambda group, kv_heads, head_dim, rows, before, causal, bits, seed, size: Case(
        group * kv_heads, kv_heads, head_dim, rows, rows + before if causal else 1 + before, causal, *bits, seed, size
    ),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    head_dim=st.sampled_from([1, 4, 15, 16, 40, 64, 72, 80, 128]),
    rows=st.integers(1, 40),
    before=st.integers(0, 330),
    causal=st.booleans(),
    bits=st.sampled_from(FORMATS),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([0.01, 1.0, 20.0]),
)


@settings(max_examples=60, deadline=None)
@given(case=cases, cuts=st.lists(st.integers(0, 1000), max_size=3), extra=st.integers(0, 20))
def test_matches_torch_and_every_variant(case: Case, cuts: list[int], extra: int) -> None:
    fast = case.run(VARIANTS[-1])
    operands = case.of_rounded()
    assert np.all(np.abs(fast - case.exact(operands)) <= case.bound(operands))
    for variant in VARIANTS[:-1]:
        assert same(case.run(variant), fast)
    assert same(case.run(VARIANTS[-1], extra, cuts=cuts), fast)


@settings(max_examples=80, deadline=None)
@given(
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 15, 16, 40, 64, 72, 128]),
    rows=st.integers(1, 40),
    keys=st.integers(1, 1100),
    causal=st.booleans(),
    bits=st.sampled_from(FORMATS),
    key_cuts=st.lists(st.integers(0, 4), max_size=4),
    head_cuts=st.lists(st.integers(0, 3), max_size=2),
    more_rows=st.integers(0, 39),
    seed=st.integers(0, 2**31),
)
def test_part_after_part_gives_the_same_bits(
    group: int,
    kv_heads: int,
    head_dim: int,
    rows: int,
    keys: int,
    causal: bool,
    bits: tuple[int, int],
    key_cuts: list[int],
    head_cuts: list[int],
    more_rows: int,
    seed: int,
) -> None:
    """Whatever the cuts: all keys and heads at once, or their parts one after another. Causal rows may see nothing of a part."""
    case = Case(group * kv_heads, kv_heads, head_dim, rows, max(keys, rows), causal, *bits, seed, 4.0)
    whole = case.run(VARIANTS[-1])[: rows - more_rows % rows]
    for variant in VARIANTS:
        assert same(case.run_in_parts(variant, key_cuts, head_cuts, more_rows % rows), whole)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_a_prefill_across_the_boundary_of_two_parts(variant: str, bits: tuple[int, int]) -> None:
    """Rows 0 .. 15 see only the first part, the others a growing piece of the second."""
    case = Case(4, 2, 64, 48, 256 + 32, True, *bits)
    assert case.position == 240
    assert same(case.run_in_parts(variant, [1], [], 0), case.run(variant))
    assert same(case.run_in_parts(variant, [1], [1], 40), case.run(variant)[:8])  # no row sees any key of the second


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize(("rows", "keys"), [(37, 37), (20, 300), (18, 520)])
def test_prefill_in_one_call_equals_row_by_row(variant: str, bits: tuple[int, int], rows: int, keys: int) -> None:
    case = Case(4, 2, 40, rows, keys, True, *bits)
    whole = case.run(variant)
    for row in range(rows):
        assert same(case.run(variant, first=row, last=row + 1), whole[row : row + 1])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_what_the_cache_holds_beyond_the_keys_does_not_matter(variant: str, bits: tuple[int, int]) -> None:
    for causal in (False, True):
        case = Case(2, 1, 72, 5, 275, causal, *bits)
        plain = case.run(variant)
        for fill in (0xFF, 0x80):  # scales of NaN; the least integers
            assert same(case.run(variant, extra=3, fill=fill), plain)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_later_keys_cannot_reach_earlier_rows(variant: str, bits: tuple[int, int]) -> None:
    """Infinite keys and values at the last position, negative zeros before it: earlier rows keep every bit."""
    case = Case(2, 1, 64, 7, 263, True, *bits)
    case.v[:, :8] = -0.0
    plain = case.run(variant)
    for x in (case.k, case.v):
        kept = x[-1].copy()
        x[-1] = np.inf
        spoilt = case.run(variant)
        x[-1] = kept
        assert same(spoilt[:-1], plain[:-1])
        assert np.isnan(spoilt[-1:]).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_nan_and_reaches_no_other_head_or_row(variant: str, bits: tuple[int, int], value: float) -> None:
    case = Case(4, 2, 48, 5, 300, False, *bits)
    plain = case.run(variant)
    case.q[3, 50] = value  # row 3, head 1
    spoilt = case.run(variant)
    assert np.isnan(spoilt[3, 48:96]).all()
    plain[3, 48:96] = spoilt[3, 48:96] = 0
    assert same(spoilt, plain)
    for name in ("k", "v"):
        case = Case(4, 2, 48, 5, 300, False, *bits)
        getattr(case, name)[290, 50] = value  # kv head 1: query heads 2 and 3
        spoilt = case.run(variant)
        assert np.isnan(spoilt[:, 96:]).all()
        assert same(spoilt[:3, :96], plain[:3, :96])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_zeros(variant: str, bits: tuple[int, int]) -> None:
    """Scores of zero weigh all keys alike; values of zero are zero."""
    case = Case(2, 1, 64, 3, 40, False, *bits)
    case.q[0] = 0
    operands = case.of_rounded()
    assert np.all(np.abs(case.run(variant) - case.exact(operands)) <= case.bound(operands))
    case.v[:] = 0
    assert not case.run(variant).any()
    case.k[:] = 0
    assert not case.run(variant).any()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_one_key_returns_its_value(variant: str, bits: tuple[int, int]) -> None:
    """As the cache holds it; its weight is the limit exactly, its scale and 1 / l are rounded."""
    case = Case(4, 2, 80, 1, 1, True, *bits)
    expected = np.repeat(rounded(case.v, 2, bits[0])[:, 0], 2, axis=0).reshape(1, -1)
    assert np.allclose(case.run(variant), expected, rtol=2.0**-22, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("size", [1e3, 1e17])
def test_huge_scores_pick_the_best_key(variant: str, bits: tuple[int, int], size: float) -> None:
    """Scores so far apart that all weights but one vanish; the maximum moves to a later chunk."""
    case = Case(1, 1, 64, 3, 600, False, *bits)
    case.q[:] = np.float32(size)
    case.k[:] = -np.float32(size)
    case.k[599] = np.float32(size)
    expected = np.repeat(rounded(case.v[599:], 1, bits[0])[0], 3, axis=0)
    assert np.allclose(case.run(variant), expected, rtol=2.0**-22, atol=0)


@pytest.mark.parametrize("head_dim", [192, 256, 320, 512])
@pytest.mark.parametrize("bits", FORMATS)
def test_largest_heads(head_dim: int, bits: tuple[int, int]) -> None:
    case = Case(2, 1, head_dim, 19, 290, True, *bits)
    fast = case.run(VARIANTS[-1])
    operands = case.of_rounded()
    assert np.all(np.abs(fast - case.exact(operands)) <= case.bound(operands))
    for variant in VARIANTS[:-1]:
        assert same(case.run(variant), fast)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("head_dim", [64, 128, 512])
def test_the_largest_integers_do_not_overflow(variant: str, bits: tuple[int, int], head_dim: int) -> None:
    """Every integer of q, K and V at its limit, with either sign: dots as large as they get."""
    for sign in (1, -1):
        case = Case(1, 1, head_dim, 2, 256, False, *bits)
        case.q[:], case.k[:], case.v[:] = 1, sign, sign
        assert np.allclose(case.run(variant), sign, rtol=2.0**-20, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", FORMATS)
def test_scores_and_weights_follow_the_contract(variant: str, bits: tuple[int, int]) -> None:
    """One chunk, recomputed in float32 in attention.h's order with our own exp, the same in every variant (fma through float64)."""
    head_dim, keys = 72, 85
    case = Case(1, 1, head_dim, 1, keys, True, *bits)
    q_limit, w_limit, dims = ARITHMETIC[bits]

    def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)

    q, s_q = to_integers(case.q, q_limit)
    (k, s_k), (v, s_v) = (to_integers(x, LIMITS[bits[0]]) for x in (case.k, case.v))
    t = np.zeros(keys, np.float32)
    for d in range(0, head_dim, dims):
        t += (k[:, d : d + dims].astype(np.int64) @ q[0, d : d + dims]).astype(np.float32)
    s = (t * (s_q[0] * np.float32(case.scale))) * s_k
    p = _testing.math("reference", "exp", s - s.max())
    lanes = np.zeros(16, np.float32)
    for begin in range(0, keys, 16):
        part = p[begin : begin + 16]
        lanes[: len(part)] += part
    for width in (8, 4, 2, 1):
        lanes = lanes[:width] + lanes[width : 2 * width]
    o = np.zeros(head_dim, np.float32)
    for begin in range(0, keys, RUN):
        w, s_w = to_integers((p * s_v)[None, begin : begin + RUN], w_limit)
        dot = w[0].astype(np.int64) @ v[begin : begin + RUN]
        o = fma(dot.astype(np.float32), np.repeat(s_w, head_dim), o)
    assert padded(head_dim) == 80  # a whole register block of d and a narrow one
    assert same(case.run(variant)[0], o * (np.float32(1) / lanes))


@pytest.mark.parametrize(("bits", "most"), [((16, 16), 1.0), ((8, 16), 30.0), ((8, 8), 45.0)])
def test_error_against_what_was_given(bits: tuple[int, int], most: float) -> None:
    """Relative error of the result, in units of what rounding q, K and V to halves would do; all normal, scores of some units.

    Steps: a half has 2^-11 of its value, an integer 1 / limit of its row's maximum, some 2.7 deviations. So 16-bit K/V and the 13 bits of q
    and w are within about a half's; 127 levels are 8191 / 127 = 64 times as coarse in K and V, of which half or so shows.
    """
    case = Case(4, 2, 64, 64, 512, False, *bits, seed=3, size=2.0)
    exact = case.exact(case.of_given())
    halves = case.exact(tuple(x.astype(np.float16).astype(np.float64) for x in case.of_given()))
    unit = np.linalg.norm(halves - exact)
    assert np.linalg.norm(case.run(VARIANTS[-1]) - exact) <= most * unit

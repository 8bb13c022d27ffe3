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

VARIANTS = _testing.available_variants()


@dataclass
class Case:
    """Queries at positions position .. position + rows - 1 (causal), keys 0 .. keys - 1."""

    heads: int
    kv_heads: int
    head_dim: int
    rows: int
    keys: int
    causal: bool
    half: bool
    seed: int = 0
    size: float = 1.0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.position = self.keys - self.rows if self.causal else 0
        self.q = (rng.normal(size=(self.rows, self.heads * self.head_dim)) * self.size).astype(np.float32)
        self.k, self.v = rng.normal(size=(2, self.keys, self.kv_heads * self.head_dim)).astype(np.float32)
        if self.half:  # so that the oracle sees what the cache holds
            self.k, self.v = (x.astype(np.float16).astype(np.float32) for x in (self.k, self.v))
        self.scale = 1 / math.sqrt(self.head_dim)

    def cache(self, extra: int = 0, fill: float = 1e4) -> tuple[np.ndarray, np.ndarray]:
        capacity = (self.keys + 15) // 16 + extra
        dtype = np.float16 if self.half else np.float32
        k_cache = np.full((self.kv_heads, capacity, self.head_dim, 16), fill, dtype)
        v_cache = np.full((self.kv_heads, capacity * 16, self.head_dim), fill, dtype)
        _testing.kv_store("reference", self.k, self.v, 0, k_cache, v_cache)
        return k_cache, v_cache

    def run(
        self,
        variant: str,
        extra: int = 0,
        first: int = 0,
        last: int | None = None,
        cuts: list[int] | None = None,
        fill: float = 1e4,
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
        keys = [0, *sorted(256 * c for c in {c % max(1, (self.keys + 255) // 256) for c in key_cuts} - {0}), self.keys]
        kv_heads = [0, *sorted(c % (self.kv_heads + 1) for c in head_cuts), self.kv_heads]
        k_cache, v_cache = self.cache()
        out = np.full_like(self.q, np.nan)
        state = np.full((self.rows, self.heads, 2), np.nan, np.float32)
        rng = np.random.default_rng(self.seed)
        rows = self.rows - more_rows
        for begin, end in pairwise(keys):
            blocks = (end - begin + 15) // 16
            for first_head, last_head in pairwise(kv_heads):
                if first_head == last_head:
                    continue
                part = slice(first_head, last_head)
                heads = (last_head - first_head) * group
                k = k_cache[part, begin // 16 : begin // 16 + blocks].copy()
                v = v_cache[part, begin : begin + 16 * blocks].copy()
                cut = int(rng.integers(0, heads * ((rows + 15) // 16) + 1))
                for units in ((cut, heads * ((rows + 15) // 16)), (0, cut)):
                    _testing.attention(
                        variant,
                        self.q[:rows],
                        k,
                        v,
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

    def exact(self) -> np.ndarray:
        def heads_first(x: np.ndarray, heads: int) -> torch.Tensor:
            return torch.from_numpy(x).double().view(1, -1, heads, self.head_dim).transpose(1, 2)

        k, v = (
            heads_first(x, self.kv_heads).repeat_interleave(self.heads // self.kv_heads, 1) for x in (self.k, self.v)
        )
        mask = torch.ones(self.rows, self.keys, dtype=torch.bool).tril(self.position) if self.causal else None
        out = torch.nn.functional.scaled_dot_product_attention(heads_first(self.q, self.heads), k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(self.rows, -1).numpy()

    def tolerance(self) -> float:
        """A score's rounding error shifts a weight by as much, relatively; sums over keys add theirs."""
        norms = (
            np.linalg.norm(self.q.reshape(-1, self.head_dim), axis=1).max()
            * np.linalg.norm(self.k.reshape(-1, self.head_dim), axis=1).max()
        )
        return (
            2.0**-24
            * (2 * math.sqrt(self.head_dim) * norms * self.scale + math.sqrt(self.keys) + 16)
            * float(np.abs(self.v).max())
        )


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


cases = st.builds(
    lambda group, kv_heads, head_dim, rows, before, causal, half, seed, size: Case(
        group * kv_heads, kv_heads, head_dim, rows, rows + before if causal else 1 + before, causal, half, seed, size
    ),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    head_dim=st.sampled_from([1, 4, 15, 16, 40, 64, 72, 80, 128]),
    rows=st.integers(1, 40),
    before=st.integers(0, 330),
    causal=st.booleans(),
    half=st.booleans(),
    seed=st.integers(0, 2**31),
    size=st.sampled_from([0.01, 1.0, 20.0]),
)


@settings(max_examples=60, deadline=None)
@given(case=cases, cuts=st.lists(st.integers(0, 1000), max_size=3), extra=st.integers(0, 20))
def test_matches_torch_and_every_variant(case: Case, cuts: list[int], extra: int) -> None:
    fast = case.run(VARIANTS[-1])
    assert np.max(np.abs(fast - case.exact())) <= case.tolerance()
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
    half=st.booleans(),
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
    half: bool,
    key_cuts: list[int],
    head_cuts: list[int],
    more_rows: int,
    seed: int,
) -> None:
    """Whatever the cuts: all keys and heads at once, or their parts one after another. Causal rows may see nothing of a part."""
    case = Case(group * kv_heads, kv_heads, head_dim, rows, max(keys, rows), causal, half, seed, 4.0)
    whole = case.run(VARIANTS[-1])[: rows - more_rows % rows]
    for variant in VARIANTS:
        assert same(case.run_in_parts(variant, key_cuts, head_cuts, more_rows % rows), whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prefill_across_the_boundary_of_two_parts(variant: str) -> None:
    """Rows 0 .. 15 see only the first part, the others a growing piece of the second."""
    for half in (False, True):
        case = Case(4, 2, 64, 48, 256 + 32, True, half)
        assert case.position == 240
        assert same(case.run_in_parts(variant, [1], [], 0), case.run(variant))
        assert same(case.run_in_parts(variant, [1], [1], 40), case.run(variant)[:8])  # no row sees any key of the second


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("rows", "keys"), [(37, 37), (20, 300), (18, 520)])
def test_prefill_in_one_call_equals_row_by_row(variant: str, half: bool, rows: int, keys: int) -> None:
    case = Case(4, 2, 40, rows, keys, True, half)
    whole = case.run(variant)
    for row in range(rows):
        assert same(case.run(variant, first=row, last=row + 1), whole[row : row + 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_cache_holds_beyond_the_keys_does_not_matter(variant: str) -> None:
    for causal in (False, True):
        for half in (False, True):
            case = Case(2, 1, 72, 5, 275, causal, half)
            plain = case.run(variant)
            for fill in (np.inf, np.nan):
                assert same(case.run(variant, extra=3, fill=fill), plain)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("half", [False, True])
def test_later_keys_cannot_reach_earlier_rows(variant: str, half: bool) -> None:
    """Infinite keys and values at the last position, negative zeros before it: earlier rows keep every bit."""
    case = Case(2, 1, 64, 7, 263, True, half)
    case.v[:, :8] = -0.0
    plain = case.run(variant)
    case.k[-1] = np.inf
    case.v[-1] = np.inf
    spoilt = case.run(variant)
    assert same(spoilt[:-1], plain[:-1])
    assert not same(spoilt[-1:], plain[-1:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_key_returns_its_value(variant: str) -> None:
    case = Case(4, 2, 80, 1, 1, True, False)
    assert same(case.run(variant), np.repeat(case.v.reshape(2, 80), 2, axis=0).reshape(1, -1))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [1e3, 1e18])
def test_huge_scores_pick_the_best_key(variant: str, size: float) -> None:
    """Scores so far apart that all weights but one vanish; the maximum moves to a later chunk."""
    case = Case(1, 1, 64, 3, 600, False, False)
    case.q[:] = np.float32(size)
    case.k[:] = -np.float32(size)
    case.k[599] = np.float32(size)
    assert same(case.run(variant), np.repeat(case.v[599:], 3, axis=0))


@pytest.mark.parametrize("head_dim", [192, 256, 320])
def test_largest_heads(head_dim: int) -> None:
    for half in (False, True):
        case = Case(2, 1, head_dim, 19, 290, True, half)
        fast = case.run(VARIANTS[-1])
        assert np.max(np.abs(fast - case.exact())) <= case.tolerance()
        for variant in VARIANTS[:-1]:
            assert same(case.run(variant), fast)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_follow_the_contract(variant: str) -> None:
    """One chunk, recomputed in float32 in attention.h's order with the kernel's own exp (fma through float64)."""
    case = Case(1, 1, 8, 1, 21, True, False)

    def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)

    s = np.zeros(21, np.float32)
    for d in range(8):
        s = fma(np.repeat(case.q[0, d], 21), case.k[:, d], s)
    s *= np.float32(case.scale)
    p = _testing.math(variant, "exp", s - s.max())
    lanes = p[:16].copy()
    lanes[:5] += p[16:]
    for width in (8, 4, 2, 1):
        lanes = lanes[:width] + lanes[width : 2 * width]
    o = np.zeros(8, np.float32)
    for key in range(21):
        o = fma(np.repeat(p[key], 8), case.v[key], o)
    assert same(case.run(variant)[0], o * (np.float32(1) / lanes))

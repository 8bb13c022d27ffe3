"""linear: the reference against exact integers and float64, every variant against it to the bit; packing both ways."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("linear")
F32 = npt.NDArray[np.float32]


def random_scales(rng: np.random.Generator, shape: tuple[int, ...], scale_bits: int) -> F32:
    scales = rng.uniform(1e-3, 2e-2, shape).astype(np.float32)
    return scales.astype(np.float16).astype(np.float32) if scale_bits == 16 else scales


@dataclass
class Case:
    """One linear layer and its input: x = q_x * scale_x (tokens, K), W = (q_w - zero_w) * scale_w (N, K)."""

    q_x: npt.NDArray[np.int64]  # (tokens, K)
    scale_x: F32  # (tokens, groups)
    q_w: npt.NDArray[np.int8]  # (N, K)
    scale_w: F32  # (N, groups)
    x_bits: int
    bits: int
    group_size: int
    scale_bits: int
    zero_w: npt.NDArray[np.int8] | None = None  # (N, groups)
    bias: F32 | None = None
    residual: F32 | None = None  # (tokens, N)

    def planes(self) -> tuple[npt.NDArray[np.uint8], F32, npt.NDArray[np.int32]]:
        tokens, cols = self.q_x.shape
        padded = self.scale_x.shape[1] * self.group_size
        values = np.zeros((tokens, padded), np.int64)
        values[:, :cols] = self.q_x
        by_group = values.reshape(tokens, -1, self.group_size)
        high = by_group >> 8 if self.x_bits == 16 else by_group
        sums = np.stack([by_group.sum(-1), high.sum(-1)], -1).astype(np.int32)
        if self.x_bits == 8:
            return values.astype(np.int8).view(np.uint8), self.scale_x, sums
        high_plane = (values >> 8).astype(np.int8).view(np.uint8)
        return np.concatenate([high_plane, (values & 255).astype(np.uint8)], 1), self.scale_x, sums

    def packed(self, step: int = 1 << 20) -> npt.NDArray[np.uint8]:
        return _testing.pack_linear(self.q_w, self.scale_w, self.bits, self.group_size, self.scale_bits, step, self.zero_w)

    def run(self, variant: str, cuts: tuple[int, ...] = (), extra_stride: int = 0, in_place: bool = False) -> F32:
        tokens, rows = len(self.q_x), len(self.q_w)
        q, scales, sums = self.planes()
        packed = self.packed()
        out = np.full((tokens, rows + extra_stride), -123.0, np.float32)
        residual = None
        if self.residual is not None:
            residual = out if in_place else np.zeros_like(out)
            residual[:, :rows] = self.residual
        blocks = -(-rows // 32)
        edges = [0, *sorted(min(c, blocks) for c in cuts), blocks]
        for begin, end in itertools.pairwise(edges):
            _testing.linear(
                q, scales, sums, self.q_w.shape[1], self.x_bits, packed, rows, self.bits, self.group_size,
                self.scale_bits, self.bias, residual, out, variant, begin, end,
            )  # fmt: skip
        assert (out[:, rows:] == -123.0).all()
        return out[:, :rows].copy()

    def exact(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The result in float64 and the bound of the float32 error of the contract's order of operations."""
        tokens, cols = self.q_x.shape
        y = np.zeros((tokens, len(self.q_w)))
        size = np.zeros_like(y)
        for g in range(self.scale_x.shape[1]):
            part = slice(g * self.group_size, min(cols, (g + 1) * self.group_size))
            zero = 0 if self.zero_w is None else self.zero_w[:, g : g + 1].astype(np.int64)
            dot = self.q_x[:, part] @ (self.q_w[:, part].astype(np.int64) - zero).T
            term = dot * (self.scale_w[:, g].astype(np.float64)[None] * self.scale_x[:, g].astype(np.float64)[:, None])
            y += term
            size += abs(term)
        # A term is rounded twice (float(dot), scale product), the running sum once a group: each by 2^-24 of `size`.
        roundings = 2 + self.scale_x.shape[1]
        for other in (self.bias, self.residual):
            if other is not None:
                y += other
                size += abs(other)
                roundings += 1
        return y, 1.01 * roundings * 2.0**-24 * size


def make_case(
    rng: np.random.Generator, tokens: int, rows: int, cols: int, x_bits: int, bits: int, group_size: int,
    scale_bits: int, bias: bool = False, residual: bool = False, zero_points: bool = False,
) -> Case:  # fmt: skip
    groups = -(-cols // group_size)
    limit_x, limit_w = (1 << (x_bits - 1)) - 1, 1 << (bits - 1)
    return Case(
        q_x=rng.integers(-limit_x, limit_x, (tokens, cols), endpoint=True),
        scale_x=rng.uniform(1e-5, 1e-3, (tokens, groups)).astype(np.float32),
        q_w=rng.integers(-limit_w, limit_w, (rows, cols), np.int8, endpoint=False),
        scale_w=random_scales(rng, (rows, groups), scale_bits),
        x_bits=x_bits, bits=bits, group_size=group_size, scale_bits=scale_bits,
        zero_w=rng.integers(-limit_w, limit_w, (rows, groups), np.int8) if zero_points else None,
        bias=rng.standard_normal(rows).astype(np.float32) if bias else None,
        residual=rng.standard_normal((tokens, rows)).astype(np.float32) if residual else None,
    )  # fmt: skip


def check(case: Case, cuts: tuple[int, ...] = (), extra_stride: int = 0, in_place: bool = False) -> None:
    reference = case.run("reference", extra_stride=extra_stride)
    exact, bound = case.exact()
    assert (abs(reference - exact) <= bound).all()
    for variant in VARIANTS:
        for some_cuts in ((), cuts):
            y = case.run(variant, some_cuts, extra_stride, in_place)
            np.testing.assert_array_equal(y.view(np.uint32), reference.view(np.uint32), err_msg=variant)


GROUPS, LONG_GROUPS = (32, 64, 128), (256, 384, 512)
group_sizes = st.sampled_from([*GROUPS, *LONG_GROUPS])
all_formats = pytest.mark.parametrize(
    ("x_bits", "bits", "group_size", "scale_bits"),
    [(x, w, g, s) for x in (16, 8) for w in (4, 8) for g in (GROUPS if w == 4 else GROUPS + LONG_GROUPS) for s in (16, 32)],
)


def allowed_group(group_size: int, bits: int, zero_points: bool) -> int:
    """Long groups are for 8 bits without zero points: else the dots could exceed int32."""
    return group_size if bits == 8 and not zero_points else min(group_size, 128)


@settings(max_examples=120, deadline=None)
@given(
    tokens=st.one_of(st.integers(1, 9), st.just(17)),
    rows=st.integers(1, 100),
    cols=st.one_of(st.integers(1, 400), st.integers(401, 1300)),
    x_bits=st.sampled_from([8, 16]),
    bits=st.sampled_from([4, 8]),
    group_size=group_sizes,
    scale_bits=st.sampled_from([16, 32]),
    bias=st.booleans(),
    residual=st.booleans(),
    zero_points=st.booleans(),
    in_place=st.booleans(),
    cuts=st.lists(st.integers(0, 4), max_size=3),
    extra_stride=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(
    tokens: int, rows: int, cols: int, x_bits: int, bits: int, group_size: int, scale_bits: int, bias: bool,
    residual: bool, zero_points: bool, in_place: bool, cuts: list[int], extra_stride: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    group_size = allowed_group(group_size, bits, zero_points)
    case = make_case(rng, tokens, rows, cols, x_bits, bits, group_size, scale_bits, bias, residual, zero_points)
    check(case, tuple(cuts), extra_stride, in_place)


@all_formats
def test_every_tile_height(x_bits: int, bits: int, group_size: int, scale_bits: int) -> None:
    rng = np.random.default_rng(1)
    for tokens in (*range(1, 14), 17, 23, 25):
        zero_points = tokens % 3 == 0 and group_size <= 128
        check(make_case(rng, tokens, 70, 3 * group_size - 5, x_bits, bits, group_size, scale_bits, zero_points=zero_points), (1,))


@pytest.mark.parametrize(("x_bits", "bits"), [(16, 4), (8, 4), (16, 8), (8, 8)])
@pytest.mark.parametrize(
    ("rows", "cols", "group_size"), [(70, 5000, 128), (40, 1700, 32), (1150, 96, 32), (100, 17000, 128), (100, 9000, 512)]
)
def test_more_than_a_cache_holds(x_bits: int, bits: int, rows: int, cols: int, group_size: int) -> None:
    """Long rows are taken in parts, and many or large row blocks in sets."""
    rng = np.random.default_rng(5)
    group_size = allowed_group(group_size, bits, False)
    for tokens in (1, 7, 13, 85):
        check(make_case(rng, tokens, rows, cols, x_bits, bits, group_size, 16, bias=True, residual=True), (1, 3), in_place=True)


@all_formats
@pytest.mark.parametrize("x_value", ["low", "high", "minus_one", "alternating"])
@pytest.mark.parametrize("w_value", ["low", "high", "alternating"])
def test_extreme_values(x_bits: int, bits: int, group_size: int, scale_bits: int, x_value: str, w_value: str) -> None:
    """The largest sums the formats allow: nothing saturates or overflows."""
    tokens, rows, cols = 5, 40, 2 * group_size
    case = make_case(np.random.default_rng(2), tokens, rows, cols, x_bits, bits, group_size, scale_bits)
    limit_x, limit_w = (1 << (x_bits - 1)) - 1, 1 << (bits - 1)
    sign = np.where(np.arange(cols) % 2, 1, -1)
    x = {"low": -limit_x, "high": limit_x, "minus_one": -1, "alternating": sign * limit_x}[x_value]
    w = {"low": -limit_w, "high": limit_w - 1, "alternating": np.where(sign > 0, limit_w - 1, -limit_w)}[w_value]
    case.q_x[:] = x
    case.q_w[:] = w
    check(case)
    if group_size > 128:
        return
    for zero in (-limit_w, limit_w - 1):
        case.zero_w = np.full(case.scale_w.shape, zero, np.int8)
        check(case)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 12),
    rows=st.integers(1, 140),
    cols=st.integers(1, 300),
    x_bits=st.sampled_from([8, 16]),
    bits=st.sampled_from([4, 8]),
    group_size=group_sizes,
    scale_bits=st.sampled_from([16, 32]),
    bias=st.booleans(),
    residual=st.booleans(),
    corner=st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_block_of_outputs_for_a_block_of_tokens(
    tokens: int, rows: int, cols: int, x_bits: int, bits: int, group_size: int, scale_bits: int, bias: bool,
    residual: bool, corner: tuple[int, int, int, int], seed: int,
) -> None:  # fmt: skip
    """Copies of these tokens, row blocks of weights and biases only; out of full width with the residual in place."""
    group_size = allowed_group(group_size, bits, False)
    case = make_case(np.random.default_rng(seed), tokens, rows, cols, x_bits, bits, group_size, scale_bits, bias, residual)
    whole = case.run("reference")
    blocks = -(-rows // 32)
    t0, b0 = corner[0] % tokens, corner[2] % blocks
    t1, b1 = t0 + 1 + corner[1] % (tokens - t0), b0 + 1 + corner[3] % (blocks - b0)
    block_bytes = len(case.packed()) // blocks
    memory = np.full((b1 - b0 + 2) * block_bytes + 64, 0x5A, np.uint8)  # what is not there is not zero either
    start = block_bytes + -(memory.ctypes.data + block_bytes) % 64
    weights = memory[start : start + (b1 - b0) * block_bytes]
    weights[:] = case.packed()[b0 * block_bytes : b1 * block_bytes]
    q, scales, sums = (x[t0:t1].copy() for x in case.planes())
    part = slice(32 * b0, min(rows, 32 * b1))
    for variant in VARIANTS:
        out = np.full((tokens, rows), -123.0, np.float32)
        if case.residual is not None:
            out[t0:t1] = case.residual[t0:t1]
        expected = out.copy()
        expected[t0:t1, part] = whole[t0:t1, part]
        _testing.linear(
            q, scales, sums, cols, x_bits, weights, rows, bits, group_size, scale_bits,
            None if case.bias is None else case.bias[part].copy(), None if case.residual is None else out[t0:t1],
            out[t0:t1], variant, b0, b1, window=True,
        )  # fmt: skip
        np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32), err_msg=variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("before", "scale", "expected"),
    [
        # (2^23 + 1) * scale is 2^-24 but for 2^-70: in float64 the sum with `before` lies half way between two floats, and the even one is
        # not always right.
        (1 + 2.0**-23, (1 - 2.0**-23) * 2.0**-47, 1 + 2.0**-23),
        (1 + 2.0**-23, (1 + 2.0**-23) * 2.0**-47, 1 + 2.0**-22),
        (-1 - 2.0**-23, -(1 - 2.0**-23) * 2.0**-47, -1 - 2.0**-23),
        (-1, -(1 + 2.0**-23) * 2.0**-47, -1 - 2.0**-23),
    ],
)
def test_products_and_sums_are_rounded_once(variant: str, before: float, scale: float, expected: float) -> None:
    q_x, q_w = np.zeros((1, 256), np.int64), np.zeros((3, 256), np.int8)
    q_x[0, 0], q_w[:, 0] = 1, 1
    q_x[0, 128:132], q_w[:, 128:132] = (32767, 32767, 518, 5), (127, 127, 127, 1)
    scale_w = np.array([[before, scale]] * 3, np.float32)
    case = Case(q_x, np.ones((1, 2), np.float32), q_w, scale_w, 16, 8, 128, 32)
    assert int(q_x[0, 128:] @ q_w[0, 128:].astype(np.int64)) == 2**23 + 1
    assert (scale_w[0] == [before, scale]).all()
    assert (case.run(variant) == np.float32(expected)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_tokens_and_empty_range_write_nothing(variant: str) -> None:
    case = make_case(np.random.default_rng(3), 2, 33, 64, 16, 4, 32, 16)
    q, scales, sums = case.planes()
    out = np.full((2, 33), 5.0, np.float32)
    common = (64, 16, case.packed(), 33, 4, 32, 16, None, None)
    _testing.linear(q, scales, sums, *common, out, variant, 1, 1)
    _testing.linear(q[:0], scales[:0], sums[:0], *common, out[:0], variant)
    assert (out == 5.0).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("x_bits", [8, 16])
def test_nan_scale_reaches_the_output(variant: str, x_bits: int) -> None:
    case = make_case(np.random.default_rng(4), 3, 32, 96, x_bits, 8, 32, 32)
    case.scale_x[1, 1] = np.nan
    y = case.run(variant)
    np.testing.assert_array_equal(np.isnan(y).all(1), [False, True, False])
    assert not np.isnan(y[[0, 2]]).any()


# --- packing ---


def words_of(q: npt.NDArray[np.int8], bits: int) -> npt.NDArray[np.int32]:
    """compressed-tensors' weight_packed, written from its description (docs/checkpoint.md)."""
    rows, cols = q.shape
    per_word = 32 // bits
    stored = np.zeros((rows, -(-cols // per_word) * per_word), np.uint64)
    stored[:, :cols] = (q.astype(np.int64) + (1 << (bits - 1))).astype(np.uint64)
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    return (stored.reshape(rows, -1, per_word) << shifts).sum(-1).astype(np.uint32).view(np.int32)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 100),
    cols=st.integers(1, 300),
    bits=st.sampled_from([4, 8]),
    group_size=group_sizes,
    scale_bits=st.sampled_from([16, 32]),
    channel=st.booleans(),
    zero_points=st.booleans(),
    step=st.integers(1, 5),
    extra_words=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_pack_round_trip(
    rows: int, cols: int, bits: int, group_size: int, scale_bits: int, channel: bool, zero_points: bool, step: int,
    extra_words: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    group_size = allowed_group(group_size, bits, zero_points)
    limit, groups = 1 << (bits - 1), -(-cols // group_size)
    q = rng.integers(-limit, limit, (rows, cols), np.int8, endpoint=False)
    scales = random_scales(rng, (rows, 1 if channel else groups), scale_bits)
    zero = rng.integers(-limit, limit, scales.shape, np.int8) if zero_points else None
    packed = _testing.pack_linear(q, scales, bits, group_size, scale_bits, step, zero)
    words = words_of(q, bits)
    words = np.concatenate([words, np.full((rows, extra_words), -1, np.int32)], 1)
    from_words = _testing.pack_linear_words(words, cols, scales, bits, group_size, scale_bits, step, zero)
    np.testing.assert_array_equal(from_words, packed)
    unpacked, unpacked_scales, unpacked_zero = _testing.unpack_linear(packed, rows, cols, bits, group_size, scale_bits)
    np.testing.assert_array_equal(unpacked, q)
    np.testing.assert_array_equal(unpacked_scales, np.broadcast_to(scales, (rows, groups)))
    np.testing.assert_array_equal(unpacked_zero, np.broadcast_to(0 if zero is None else zero, (rows, groups)))
    # Padding, seen through a weight of the full blocks: zero values, and zero scales behind the rows.
    full_rows, full_cols = -(-rows // 32) * 32, groups * group_size
    padded, padded_scales, padded_zero = _testing.unpack_linear(packed, full_rows, full_cols, bits, group_size, scale_bits)
    assert not padded[rows:].any()
    assert not padded[:, cols:].any()
    assert not padded_scales[rows:].any()
    assert not padded_zero[rows:].any()


def test_packs_what_compressed_tensors_packed() -> None:
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    rng = np.random.default_rng(5)
    for bits, cols in ((4, 96), (8, 96), (4, 101), (8, 101)):
        limit = 1 << (bits - 1)
        q = rng.integers(-limit, limit, (40, cols), np.int8, endpoint=False)
        scales = random_scales(rng, (40, -(-cols // 32)), 16)
        words = pack_to_int32(torch.from_numpy(q), bits).numpy()
        packed = _testing.pack_linear_words(words, cols, scales, bits, 32, 16)
        np.testing.assert_array_equal(packed, _testing.pack_linear(q, scales, bits, 32, 16))


def test_f16_scales_are_exact_or_refused() -> None:
    q = np.ones((1, 32), np.int8)
    every_half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    rows = len(every_half)
    packed = _testing.pack_linear(np.ones((rows, 32), np.int8), every_half[:, None], 4, 32, 16)
    _, scales, _ = _testing.unpack_linear(packed, rows, 32, 4, 32, 16)
    np.testing.assert_array_equal(scales[:, 0], every_half)
    _, scales, _ = _testing.unpack_linear(_testing.pack_linear(q, -every_half[5:6, None], 4, 32, 16), 1, 32, 4, 32, 16)
    assert scales[0, 0] == -every_half[5]
    for value in (0.1, 65520.0, 1e-8, 2.0**-25, 3 * 2.0**-25, np.inf, np.nan, 1.0 + 2.0**-11, -1e30):
        bad = np.full((1, 1), value, np.float32)
        with pytest.raises(ValueError, match="scale_bits 32"):
            _testing.pack_linear(q, bad, 4, 32, 16)
        _, scales, _ = _testing.unpack_linear(_testing.pack_linear(q, bad, 4, 32, 32), 1, 32, 4, 32, 32)
        np.testing.assert_array_equal(scales, bad)

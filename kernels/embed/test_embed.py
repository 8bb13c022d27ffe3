"""embed against the weights that were packed: the product of a value and its scale, to the bit."""

import numpy as np
import pytest
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st

VARIANTS = _testing.available_variants("embed")


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(
    vocab=st.integers(1, 100),
    hidden=st.integers(1, 300),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([32, 64, 128]),
    scale_bits=st.sampled_from([16, 32]),
    channel=st.booleans(),
    zero_points=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_are_exact(
    variant: str,
    vocab: int,
    hidden: int,
    bits: int,
    group_size: int,
    scale_bits: int,
    channel: bool,
    zero_points: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    limit = 1 << (bits - 1)
    q = rng.integers(-limit, limit, (vocab, hidden), np.int8, endpoint=False)
    scales = rng.uniform(1e-7, 1.0, (vocab, 1 if channel else -(-hidden // group_size))).astype(np.float32)
    if scale_bits == 16:
        scales = scales.astype(np.float16).astype(np.float32)
    zero = rng.integers(-limit, limit, scales.shape, np.int8) if zero_points else np.zeros(scales.shape, np.int8)
    packed = _testing.pack_linear(q, scales, bits, group_size, scale_bits, zero_points=zero if zero_points else None)
    ids = rng.integers(-2, vocab, 9, np.int32)
    out = np.full((9, hidden + 3), 77.0, np.float32)
    _testing.embed(packed, vocab, hidden, bits, group_size, scale_bits, ids, out, variant, 1, 8)

    width = hidden if channel else group_size
    zero_by_column, by_column = (np.repeat(part, width, axis=1)[:, :hidden] for part in (zero, scales))
    table = (q.astype(np.int32) - zero_by_column).astype(np.float32) * by_column
    expected = np.full_like(out, 77.0)  # negative ids, the columns beyond hidden and rows outside the range stay
    for row in range(1, 8):
        if ids[row] >= 0:
            expected[row, :hidden] = table[ids[row]]
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))

    # One row from a copy of its block of the weight.
    row_block = int(ids.max()) // 32
    if row_block >= 0:
        size = len(packed) // -(-vocab // 32)
        memory = np.full(size + 64, 0x5A, np.uint8)
        there = memory[-memory.ctypes.data % 64 :][:size]
        there[:] = packed[row_block * size : (row_block + 1) * size]
        one = np.full((1, hidden), 77.0, np.float32)
        _testing.embed(
            there, vocab, hidden, bits, group_size, scale_bits, ids.max(keepdims=True), one, variant,
            only_block=row_block,
        )  # fmt: skip
        np.testing.assert_array_equal(one[0].view(np.uint32), table[ids.max()].view(np.uint32))

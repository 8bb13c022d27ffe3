"""linear at the shapes that matter: decode (bound by reading weights) and prefill or vision (by dot products of bytes)."""

from typing import Any

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", [v for v in _testing.available_variants("linear") if v != "reference"])
@pytest.mark.parametrize(
    ("tokens", "rows", "cols", "x_bits", "bits", "group_size"),
    [
        (1, 6144, 2048, 16, 4, 128),
        (1, 2048, 6144, 16, 4, 128),
        (128, 2048, 2048, 16, 4, 128),
        (128, 2048, 2048, 8, 4, 128),
        (256, 4096, 1024, 16, 8, 128),
        (256, 4096, 1024, 8, 8, 128),
    ],
)
def test_bench_linear(
    benchmark: Any, limit: Any, variant: str, tokens: int, rows: int, cols: int, x_bits: int, bits: int, group_size: int
) -> None:
    rng = np.random.default_rng(0)
    high = 1 << (bits - 1)
    q_w = rng.integers(-high, high, (rows, cols), np.int8, endpoint=False)
    scales = np.full((rows, 1), 1 / 64, np.float32)
    x = _testing.quantize(rng.standard_normal((tokens, cols)).astype(np.float32), group_size, x_bits, variant)
    out = np.zeros((tokens, rows), np.float32)
    # Several copies for one token, so that the weights come from memory and not from the last-level cache.
    copies = [_testing.pack_linear(q_w, scales, bits, group_size, 16) for _ in range(12 if tokens == 1 else 1)]

    def run() -> None:
        for weight in copies:
            _testing.linear(*x, cols, x_bits, weight, rows, bits, group_size, 16, None, None, out, variant)

    if tokens == 1:
        limit("read", copies[0].nbytes * len(copies))
    elif variant == "portable":
        limit("int16", 2 * tokens * rows * cols, variant=variant)  # words of x at once, whatever its bits
    else:
        limit("int8", 2 * tokens * rows * cols * (x_bits // 8), variant=variant)
    benchmark(run)

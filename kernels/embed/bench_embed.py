"""embed: one prefill chunk of ids out of a large table."""

from typing import Any

import numpy as np
import pytest
from hypervl_engine import _testing


@pytest.mark.parametrize("variant", _testing.available_variants("embed"))
def test_bench_embed(benchmark: Any, variant: str) -> None:
    vocab, hidden = 8192, 2048
    rng = np.random.default_rng(0)
    q = rng.integers(-8, 8, (vocab, hidden), np.int8, endpoint=False)
    packed = _testing.pack_linear(q, np.full((vocab, 1), 1 / 64, np.float32), 4, 128, 16)
    ids = rng.integers(0, vocab, 128, np.int32)
    out = np.zeros((128, hidden), np.float32)
    benchmark(_testing.embed, packed, vocab, hidden, 4, 128, 16, ids, out, variant)

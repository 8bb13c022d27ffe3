"""A prompt into an empty cache. Bound by dot products of bytes."""

import numpy as np
import pytest
from hypervl_engine.work import prefill_operations


@pytest.mark.parametrize("tokens", [32, 128, 512, 1024])
def test_prefill(benchmark, limit, engine, planes, tokens):
    session = engine.new_session()
    ids = np.arange(tokens, dtype=np.int32) % 256

    def prefill():
        session.reset()
        session.prefill(ids)

    limit("int8", planes * prefill_operations(engine.config, tokens), threads=engine.model.threads)
    benchmark(prefill)
    assert session.length == tokens

"""One more token after a context. Bound by reading weights and cache from memory."""

import numpy as np
import pytest
from hypervl_engine.work import decode_bytes


@pytest.mark.parametrize("context", [8, 512, 2000])
def test_decode(benchmark, limit, engine, context):
    session = engine.new_session()
    session.prefill(np.arange(context, dtype=np.int32) % 256)

    def decode():
        session.decode(5)
        session.truncate(context)

    cached = session.stats()["kv_cache_bytes"] / engine.context_length * (context + 1)
    limit("read", decode_bytes(engine.config) + cached, threads=engine.model.threads)
    benchmark(decode)
    assert session.length == context

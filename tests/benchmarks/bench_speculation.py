"""Prompt lookup on the demo model: text that repeats its context, and text that only seems to (`make benchmark`)."""

import numpy as np
import pytest

TOKENS = 96
REPEATED = np.tile(np.arange(40, 60, dtype=np.int32), 8)
# Sampling among the best few makes short matches all the time, and what followed them says nothing.
HOW = {"repeats": {}, "seems to": {"temperature": 5.0, "top_k": 4}}


@pytest.mark.parametrize("speculate", [False, True])
@pytest.mark.parametrize("text", HOW)
def test_decode_of_text_that(benchmark, demo, text, speculate):
    session = demo.new_session()

    def prepare():
        session.reset()
        session.prefill(REPEATED)
        session.seed(1)
        session.reset_stats()

    def run():
        token, done = session.sample(**HOW[text])["id"], 1
        while done < TOKENS:
            if speculate:
                several = session.speculate(token, TOKENS - done, **HOW[text])
                token, done = several[-1]["id"], done + len(several)
            else:
                session.decode(token)
                token, done = session.sample(**HOW[text])["id"], done + 1

    benchmark.pedantic(run, setup=prepare, rounds=5)
    stats = session.stats()
    assert stats["decode_tokens"] == TOKENS - 1
    benchmark.extra_info.update({name: stats[name] for name in ("drafted_tokens", "accepted_tokens")})

"""An image and a question to a short answer: everything together."""

import pytest


@pytest.mark.parametrize("branch", ["base", "large"])
def test_image_to_text(benchmark, limit, engine, tile, branch):
    limit("int8", threads=engine.model.threads)
    result = benchmark(engine.generate, tile, "what is the total?", branch=branch, scale=1.0, max_new_tokens=8)
    assert result.stats.tiles == 1

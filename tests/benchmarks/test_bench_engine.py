"""Tile encode, prefill, decode and end to end, on the demo model (`make benchmark`)."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def image(demo):
    size = demo.config.tiling.tile_size
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("branch", ["base", "large"])
def test_tile_encode(benchmark, demo, image, branch):
    session = demo.new_session()
    assert benchmark(session.encode, image, 1.0, branch).shape[0] > 0


@pytest.mark.parametrize("tokens", [32, 256])
def test_prefill(benchmark, demo, tokens):
    session = demo.new_session()
    ids = np.arange(tokens, dtype=np.int32) % 256

    def prefill():
        session.reset()
        session.prefill(ids)

    benchmark(prefill)
    assert session.length == tokens


def test_decode(benchmark, demo):
    session = demo.new_session()
    session.prefill(np.arange(64, dtype=np.int32))

    def decode():
        session.decode(5)
        session.truncate(64)

    benchmark(decode)
    assert session.length == 64


def test_vrc(benchmark, demo, image):
    assert 0 < benchmark(demo.new_session().vrc_scale, image) <= 1


@pytest.mark.parametrize("branch", ["base", "large"])
def test_end_to_end(benchmark, demo, image, branch):
    result = benchmark(demo.generate, image, "what is the total?", branch=branch, scale=1.0, max_new_tokens=8)
    assert result.stats.tiles == 1

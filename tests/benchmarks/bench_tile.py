"""One tile through vision tower and projector. Bound by dot products of bytes."""

import pytest
from hypervl_engine.work import tile_operations


@pytest.mark.parametrize("branch", ["base", "large"])
def test_tile(benchmark, limit, engine, planes, tile, branch):
    session = engine.new_session()
    patches = (tile.shape[0] // engine.config.vision_configs[branch].patch_size) ** 2
    limit("int8", planes * tile_operations(engine.config, branch, patches), threads=engine.model.threads)
    assert benchmark(session.encode, tile, 1.0, branch).shape[0] > 0

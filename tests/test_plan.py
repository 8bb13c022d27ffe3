"""Where the scheduler puts buffers: what is alive at the same time never overlaps, and nothing lies outside the arena."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _testing
from hypervl_engine.engine import Engine, load

from tools.reference import write_random


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = write_random(tmp_path_factory.mktemp("tiny") / "checkpoint")
    return load(folder, threads=1, progress=False)


def plans(engine: Engine) -> dict[str, dict[str, Any]]:
    return {
        "tile base": _testing.tile_plan(engine.model, "base", 64, 64),
        "tile large": _testing.tile_plan(engine.model, "large", 32, 64),
        "text": _testing.text_plan(engine.model, 256),
        "vrc": _testing.vrc_plan(engine.model),
    }


def live_sets(plan: dict[str, Any]) -> list[set[int]]:
    """Buffers alive at each step of a run with every repetition written out: from a write to the last read before the next write."""
    steps = [o for first, count, repeat in plan["sections"] for _ in range(repeat) for o in range(first, first + count)]
    alive: list[set[int]] = [set() for _ in steps]
    wanted: set[int] = set()
    for at in range(len(steps) - 1, -1, -1):
        op = plan["ops"][steps[at]]
        reads = {b for b in op["in"] if b >= 0}
        if op["out"] >= 0 and op["out"] not in reads:
            alive[at] |= {op["out"]}
            wanted -= {op["out"]}
        wanted |= reads
        alive[at] |= wanted | ({op["out"]} if op["out"] >= 0 else set())
    return alive


@pytest.mark.parametrize("name", ["tile base", "tile large", "text", "vrc"])
def test_live_buffers_do_not_overlap(engine: Engine, name: str) -> None:
    plan = plans(engine)[name]
    places = [(b["offset"], b["offset"] + b["bytes"]) if b["placed"] else None for b in plan["buffers"]]
    assert any(places)
    for place in filter(None, places):
        assert place[0] % 64 == 0
        assert place[1] <= plan["arena_bytes"]
    shared = False
    for alive in live_sets(plan):
        spans = sorted(place for b in alive if (place := places[b]))
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    for a in range(len(places)):
        for b in range(a):
            pa, pb = places[a], places[b]
            shared |= pa is not None and pb is not None and pa[0] < pb[1] and pb[0] < pa[1]
    assert shared, "nothing is ever reused"


def test_arena_does_not_grow_with_the_image(engine: Engine) -> None:
    session = engine.new_session()
    small, large = np.zeros((64, 64, 3), np.uint8), np.zeros((640, 640, 3), np.uint8)
    session.encode(small, 1.0, "large")
    before = session.stats()["arena_bytes"]
    session.encode(large, 1.0, "large")
    assert session.stats()["arena_bytes"] == before
    assert session.stats()["tiles"] == 1 + 100


def test_the_arena_is_cut_to_the_largest_plan(engine: Engine) -> None:
    assert engine.new_session().stats()["arena_bytes"] >= max(plan["arena_bytes"] for plan in plans(engine).values())

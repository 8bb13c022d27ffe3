"""Plan files edited at random: each is refused with a ValueError, or it holds, and then it runs to the same bits."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import HyperVLError, _core, load
from hypervl_engine.checkpoint import open_checkpoint
from hypervl_engine.plan import Plan

CONTEXT = 64
EDITS = 400
_NUMBERS = (0, 1, -1, 2, 3, 7, 16, 31, 32, 64, 127, 128, 129, 255, 256, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63))
_STEPS = (-256, -128, -64, -1, 1, 32, 64, 128, 256)


def edit(plan: dict[str, Any], chance: random.Random) -> bool:
    """Changes one or two things in place; false when nothing is different."""
    before = copy.deepcopy(plan)
    for _ in range(chance.choice((1, 1, 2))):
        key = chance.choice([name for name in plan if name not in ("program", "spec", "staged")])
        place, name = plan, key
        if isinstance(plan[key], list):
            if not plan[key]:
                continue
            if chance.random() < 0.1:
                chance.shuffle(plan[key])
                continue
            place = chance.choice(plan[key])
            name = chance.choice(list(place))
        if name == "home":
            place[name] = chance.choice(("none", "resident", "ddr", "bound"))
        else:
            place[name] = chance.choice(_NUMBERS) if chance.random() < 0.5 else place[name] + chance.choice(_STEPS)
    return plan != before


@pytest.mark.parametrize("device", ["cpu", "cpu-staged"])
def test_edited_plans(device: str, tiny: Path, picture: np.ndarray) -> None:
    engine = load(tiny, threads=2, progress=False, device=device, context_length=CONTEXT)
    plan: Plan = engine.plan((picture.shape[1], picture.shape[0]), text_tokens=3)
    checkpoint = open_checkpoint(tiny)
    weights = checkpoint.open_weights(progress=False)
    ids = np.arange(5, 45, dtype=np.int32)

    def run(plans: list[dict[str, Any]]) -> list[np.ndarray]:
        values = plan.spec.values()
        model = _core.Model(checkpoint.config, weights, threads=2, spec=values, budget=engine.budget, plans=plans)
        session = _core.Session(model, CONTEXT)
        out = [session.encode(picture, 1.0, engine.default_branch)]
        session.prefill(ids)
        out.append(session.last_logits())
        session.decode(7)
        return [*out, session.last_logits(), np.float64(session.vrc_scale(picture))]

    expected = run(plan.file.plans)
    chance = random.Random(device)
    ran = 0
    for _ in range(EDITS):
        index = chance.randrange(len(plan.stages))
        plans = copy.deepcopy(plan.file.plans)
        if not edit(plans[index], chance):
            continue
        try:
            _core.check_plan(plan.programs[index], plans[index])
            _core.describe_plan(plan.programs[index], plans[index], plan.spec.values(), events=1)
        except ValueError:
            continue
        if plans[index]["ddr_bytes"] > 1 << 26:
            continue  # holds, but would only show how much memory this machine has
        try:
            got = run(plans)
        except (ValueError, HyperVLError):  # planned for other threads or another budget
            continue
        ran += 1
        for mine, theirs in zip(expected, got, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert ran >= EDITS // 40

"""The executor: plans run as they say, and neither budget, nor machine, nor the moment of a transfer changes a bit.

Device "cpu-staged" is where a wrong plan shows: kernels see only what was copied into the fast arena, DDR faults when they touch it, and
transfers happen as late and as early as they may.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _core
from hypervl_engine.engine import Engine, load
from hypervl_engine.hardware import Figure, HardwareSpec, cpu_spec, preset
from hypervl_engine.tensors import expected_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.reference import write_random

CONTEXT = 640
TEXT = {
    "vocab_size": 512, "hidden_size": 96, "intermediate_size": 224, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 3, "head_dim": 32, "max_position_embeddings": 2048, "eos_token_id": [1], "bos_token_id": 0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "large tiles, thumbnail": {"tiling": {"tile_size": 160, "use_thumbnail": True}},
    "odd sizes": {"text": TEXT, "seed": 3},
}


@functools.cache
def folder(name: str) -> Path:
    return write_random(_root / name.replace(" ", "_"), **MODELS[name])


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _root
    _root = tmp_path_factory.mktemp("models")
    folder.cache_clear()


_root = Path()


def digest(engine: Engine, rgb: np.ndarray, scale: float, branch: str, eager: bool = False, protect: bool = False) -> str:
    """Of everything that comes out: scale, embeddings, logits of a prompt cut into chunks, decoded tokens."""
    session = engine.new_session()
    session.set_eager_transfers(eager)
    session.protect_ddr(protect)
    out = hashlib.sha256(str(session.vrc_scale(rgb)).encode())
    out.update(session.encode(rgb, scale, branch).tobytes())
    image = engine.model.image_token_ids(*rgb.shape[:2], scale)
    ids = np.concatenate([[5, 6, 7], image, np.arange(290) % 400]).astype(np.int32)[: CONTEXT - 8]
    logits = session.prefill(ids, [(rgb, scale)], branch, logits=True)
    assert logits is not None
    out.update(logits.tobytes())
    for token in (4, 99, 300):
        session.decode(token)
        out.update(session.last_logits().tobytes())
    stats = session.stats()
    assert stats["fast_peak_bytes"] <= stats["fast_planned_bytes"] <= stats["fast_budget_bytes"] == engine.budget
    return out.hexdigest()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)


def smallest(model: str, spec: HardwareSpec, bits: int, kv_bits: int = 16, device: str | None = None) -> int:
    """The least budget for every Program of full tiles and of the text model."""
    engine = load(folder(model), threads=1, activation_bits=bits, kv_bits=kv_bits, context_length=CONTEXT, device=device, progress=False)
    side = engine.config.tiling.tile_size
    programs = [p for branch in engine.branches for _, p, _ in _core.model_programs(engine.model, branch, [(side, side)], CONTEXT)]
    return max(_core.smallest_budget(program, spec.values()) for program in programs)


@functools.cache
def reference(
    model: str, size: tuple[int, int], scale: float, branch: str, bits: int, kv_bits: int = 16, device: str | None = None
) -> str:
    engine = load(
        folder(model), threads=1, activation_bits=bits, kv_bits=kv_bits, context_length=CONTEXT, vtcm="64MiB", device=device,
        progress=False,
    )  # fmt: skip
    return digest(engine, picture(*size), scale, branch)


def spec_of(name: str, threads: int) -> HardwareSpec:
    """A machine to run plans on: its kernels read fast memory only unless it is the cpu."""
    if name.startswith("cpu"):
        return cpu_spec(threads, staged=name == "cpu-staged")
    return preset(name).with_figures({"contexts": Figure(float(threads), "of this test", "assumed")})


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_results_do_not_depend_on_budget_machine_or_transfers(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(sorted(MODELS)))
    size = data.draw(st.sampled_from([(64, 64), (33, 150), (150, 97), (200, 161)]))
    scale, branch = data.draw(st.sampled_from([0.7, 1.0])), data.draw(st.sampled_from(["base", "large"]))
    device = data.draw(st.sampled_from([None, None, "hexagon-ref"]))
    bits, threads = data.draw(st.sampled_from([16, 8])), data.draw(st.integers(1, 3))
    kv_bits = 8 if device else data.draw(st.sampled_from([16, 8]))
    spec = spec_of(data.draw(st.sampled_from(["cpu", "cpu-staged", "cpu-staged", "hexagon-v68", "hexagon-v79"])), threads)
    budget = int(smallest(model, spec, bits, kv_bits, device) * data.draw(st.sampled_from([1.0, 1.0, 1.3, 2.0, 5.0, 20.0])))
    engine = load(
        folder(model), threads=threads, activation_bits=bits, kv_bits=kv_bits, context_length=CONTEXT, spec=spec, vtcm=budget,
        device=device, progress=False,
    )  # fmt: skip
    got = digest(engine, picture(*size), scale, branch, data.draw(st.booleans()), protect=spec.staged and data.draw(st.booleans()))
    assert got == reference(model, size, scale, branch, bits, kv_bits, device)


@pytest.mark.parametrize("device", ["cpu", "cpu-staged"])
def test_a_budget_too_small_names_one_that_works(device: str) -> None:
    def opened(budget: int) -> Engine:
        return load(folder("plain"), threads=1, device=device, context_length=CONTEXT, vtcm=budget, progress=False)

    message = r"needs at least \d+ bytes .*, the budget is 4096; for all of this model: at least \d+ bytes"
    with pytest.raises(MemoryError, match=message) as refusal:
        opened(4096)
    needed = int(str(refusal.value).split("vtcm=")[1].removesuffix(")"))
    assert opened(needed).budget == needed
    with pytest.raises(MemoryError):
        opened(needed - 128)


@pytest.mark.parametrize("device", ["cpu", "cpu-staged"])
@pytest.mark.parametrize("vtcm", [None, "200KiB"])
def test_the_measured_peak_is_the_planned_one(device: str, vtcm: str | None) -> None:
    """Arenas hold a pattern until something is written; runs of all rows write up to the planned peak and not beyond."""
    engine = load(folder("odd sizes"), threads=2, context_length=CONTEXT, device=device, vtcm=vtcm, progress=False)
    session = engine.new_session()
    side = engine.config.tiling.tile_size
    session.encode(picture(side, side), 1.0, "large")
    stats = session.stats()
    assert stats["fast_peak_bytes"] == stats["fast_planned_bytes"] > 0
    session.prefill(np.arange(CONTEXT - 1, dtype=np.int32) % 400)
    assert session.stats()["fast_peak_bytes"] <= session.stats()["fast_planned_bytes"]


def test_every_weight_byte_moves_as_often_as_planned() -> None:
    """Counted from a run: all transfers of each op are the planned ones; each linear's packed weights come once a block of rows, whole."""
    model = "large tiles, thumbnail"
    budget = int(1.1 * smallest(model, cpu_spec(1, staged=True), 16))
    engine = load(folder(model), threads=1, device="cpu-staged", vtcm=budget, context_length=CONTEXT, progress=False)
    side = engine.config.tiling.tile_size
    session = engine.new_session()
    session.start_trace()
    session.encode_tower(picture(side, side), 1.0, "large")
    ((name, events),) = session.take_trace()
    stages = _core.model_programs(engine.model, "large", [(side, side)], CONTEXT)
    program, plan = next((program, plan) for stage, program, plan in stages if stage.startswith("tile"))
    assert name == program.name
    report = _core.describe_plan(program, plan, engine.spec.values())
    specs = {n.split(".", 3)[3].removesuffix(".weight"): s for n, s in expected_tensors(engine.config).items() if ".large." in n}
    passes = 0
    for op in report["ops"]:
        loads = [e for e in events if e["track"] == "transfer" and e["op"] == op["index"]]
        assert sum(e["bytes"] for e in loads if not e["store"]) == op["bytes_in"]
        assert sum(e["bytes"] for e in loads if e["store"]) == op["bytes_out"]
        if op["kind"] != "linear":
            continue
        spec = next(s for n, s in specs.items() if n.endswith(op["name"]))
        groups = -(-op["k"] // spec.engine_group)
        block = 32 * groups * (spec.engine_group * spec.bits // 8 + 2)  # values and float16 scales of 32 outputs
        streamed: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for e in loads:
            if e["transfers"] == 2 and not e["store"]:  # weights and bias
                begin, end = e["units"]
                assert e["bytes"] == (end - begin) * block + (min(op["n"], 32 * end) - 32 * begin) * 4
                streamed.setdefault((e["repetition"], e["block"]), []).append((begin, end))
        group, section = report["groups"][op["group"]], report["sections"][op["section"]]
        assert len(streamed) == group["blocks"] * section["repeat"]
        passes = max(passes, group["blocks"])
        for ranges in streamed.values():
            assert ranges[0][0] == 0
            assert ranges[-1][1] == -(-op["n"] // 32)
            assert all(a[1] == b[0] for a, b in pairwise(ranges))
    assert passes > 1  # some weights do come more than once


SCRIPT = """
import sys
import numpy as np
from hypervl_engine.engine import load

engine = load(sys.argv[1], threads=1, device="cpu-staged", context_length=128, progress=False)
session = engine.new_session()
session.protect_ddr(True)
session.prefill(np.arange(64, dtype=np.int32))
print("ran")
"""


def test_kernels_that_touch_ddr_fault(tmp_path: Path) -> None:
    """The protection itself works: with a plan that reads weights in place, the first kernel dies. With the staged one it runs."""
    in_place = SCRIPT.replace('device="cpu-staged"', 'device="cpu"')
    runs = [
        subprocess.run([sys.executable, "-c", script, str(folder("plain"))], capture_output=True, text=True, env=dict(os.environ))
        for script in (SCRIPT, in_place)
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout.strip() == "ran"
    assert runs[1].returncode == -11 or "SEGV" in runs[1].stderr  # the address sanitizer reports it


def test_order_of_tiles_and_what_ran_before_do_not_matter() -> None:
    """Tiles of two pictures in either order, in an arena full of other data: the same embeddings."""
    engine = load(folder("plain"), threads=2, device="cpu-staged", vtcm="256KiB", context_length=CONTEXT, progress=False)
    a, b = picture(150, 200), picture(100, 65)
    first, second = engine.new_session(), engine.new_session()
    forward = [first.encode(x, 1.0, "large") for x in (a, b)]
    backward = [second.encode(x, 1.0, "large") for x in (b, a)]
    np.testing.assert_array_equal(forward[0], backward[1])
    np.testing.assert_array_equal(forward[1], backward[0])
    # Row by row of tiles from the picture turned round: each tile's own embeddings, wherever it stands.
    side = engine.config.tiling.tile_size
    tiles = [picture(side, side + i)[:, :side].copy() for i in range(3)]
    alone = [first.encode(t, 1.0, "base") for t in tiles]
    for order in ((2, 0, 1), (1, 2, 0)):
        together = second.encode(np.concatenate([tiles[i] for i in order], axis=1), 1.0, "base")
        for place, i in enumerate(order):
            np.testing.assert_array_equal(together[place * len(alone[i]) : (place + 1) * len(alone[i])], alone[i])


def test_memory_does_not_grow_with_the_image() -> None:
    """4096 x 4096 in the activation memory of 512 x 512; what does grow is reported by itself."""
    engine = load(folder("large tiles, thumbnail"), threads=2, context_length=2048, progress=False)
    lines = []
    for side in (512, 4096):
        engine.encode(np.zeros((side, side, 3), np.uint8), scale=1.0)
        lines.append(engine.stats)
    small, large = lines
    odd = engine.encode(np.zeros((500, 1333, 3), np.uint8), scale=1.0)  # with tiles of other shapes at the edges
    assert len(odd) > 0
    lines.append(engine.stats)
    assert lines[2]["arena_bytes"] == small["arena_bytes"]
    for name in ("fast_peak_bytes", "fast_planned_bytes", "ddr_bytes", "block_bytes", "arena_bytes", "kv_cache_bytes"):
        assert small[name] == large[name], name
    assert large["image_bytes"] >= 4096 * 4096 * 3 > 10 * small["image_bytes"]


def test_generate_takes_a_photo_of_any_size_in_the_same_memory(tmp_path: Path) -> None:
    """Tiles are projected and prefilled as they finish: 16,384 visual tokens in the activation memory of 256."""
    text = {**TEXT, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 20000}
    engine = load(
        write_random(tmp_path / "long", text=text, tiling={"tile_size": 256}), threads=2, context_length=17000, progress=False
    )  # fmt: skip
    lines = []
    for side in (512, 4096):
        result = engine.generate(np.zeros((side, side, 3), np.uint8), "a", scale=1.0, branch="base", max_new_tokens=2)
        assert result.stats.visual_tokens == (side // 32) ** 2
        lines.append(engine.stats)
    for name in ("fast_peak_bytes", "fast_planned_bytes", "ddr_bytes", "block_bytes", "arena_bytes", "kv_cache_bytes"):
        assert lines[0][name] == lines[1][name], name
    assert lines[1]["image_bytes"] >= 4096 * 4096 * 3
    with pytest.raises(ValueError, match=r"16384 visual tokens, max_visual_tokens is 1000: scale=0\.\d+ would fit"):
        engine.generate(np.zeros((4096, 4096, 3), np.uint8), "a", scale=1.0, max_visual_tokens=1000)

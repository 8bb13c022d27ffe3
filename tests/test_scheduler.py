"""The scheduler: every plan is valid, within its budget, as good as any for less, and made in time.

Programs are those of whole models, recorded over weights that are not there (`_testing.hollow_weights`): any shape costs
a few milliseconds.
"""

from __future__ import annotations

import copy
import functools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _core, _testing
from hypervl_engine.config import Config
from hypervl_engine.convert.packing import plan as pack_plan
from hypervl_engine.convert.random_model import PRESETS, preset_config
from hypervl_engine.hardware import HardwareSpec, preset
from hypervl_engine.hardware.cpu import default_cpu_spec
from hypervl_engine.tensors import expected_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LINE = 128  # everything in fast memory is aligned to this
MIB = 1 << 20
KINDS = ("tile", "projector", "vrc", "prefill", "decode", "head")
FIXTURES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def cpu(staged: bool = False, threads: int = 2) -> dict[str, Any]:
    spec = default_cpu_spec(threads)
    return {**spec.values(), "name": "cpu-staged" if staged else "cpu", "staged": staged}


def specs_of_full_shape() -> dict[str, dict[str, Any]]:
    return {"cpu": cpu(), "cpu-staged": cpu(staged=True), "hexagon-v73": preset("hexagon-v73").values()}


def record(config: Config, *, branch: str, side: int, context: int = 256, bits: int = 16, group_size: int = 128) -> dict[str, Any]:
    """The Programs of a model of this shape, by stage: the tile, its projector, VRC, prefill, decode and head."""
    config = replace(config, quantization_config=pack_plan(config, group_size))
    tensors = [
        (name, list(spec.shape), spec.bits, spec.engine_group if spec.kind == "linear" else 0, spec.dtypes[0])
        for name, spec in expected_tensors(config).items()
    ]
    model = _core.Model(config.to_dict(), _testing.hollow_weights(tensors), threads=1, spec=cpu(threads=1), activation_bits=bits)
    return {stage.split()[0]: program for stage, program, _ in _core.model_programs(model, branch, [(side, side)], context)}


@functools.cache
def full() -> dict[str, Any]:
    """The Programs of the 1.8B shape; tile and projector of both branches."""
    config = preset_config("hypervl-1.8b", None)
    large = record(config, branch="large", side=256, context=4096)
    base = record(config, branch="base", side=256, context=4096)
    return {**large, "tile base": base["tile"], "projector base": base["projector"]}


@st.composite
def small_programs(draw: st.DrawFn) -> Any:
    """A Program of a random small model."""
    heads = draw(st.sampled_from([2, 4]))
    text = {
        **PRESETS["tiny"]["text_config"],
        "hidden_size": draw(st.sampled_from([64, 96, 128])),
        "intermediate_size": draw(st.sampled_from([96, 256, 512])),
        "num_hidden_layers": draw(st.integers(1, 5)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([1, heads])),
        "head_dim": draw(st.sampled_from([16, 32, 48])),
    }
    dim = draw(st.sampled_from([16, 24, 32]))
    vision = {
        "hidden_size": dim * heads,
        "intermediate_size": draw(st.sampled_from([64, 200, 384])),
        "num_hidden_layers": draw(st.integers(1, 5)),
        "num_attention_heads": heads,
    }
    tower = {**PRESETS["tiny"]["vision_configs"]["base"], **vision}
    base = preset_config("tiny", None).to_dict()
    side = draw(st.sampled_from([32, 64, 96, 160]))
    values = {**base, "text_config": text, "vision_configs": {"base": tower, "large": tower}}
    values["tiling"] = {**base["tiling"], "tile_size": side}
    values["vrc_config"] = {**base["vrc_config"], "image_size": draw(st.sampled_from([32, 64, 96]))}
    programs = record(
        Config.from_dict(values), branch="base", side=side, context=draw(st.sampled_from([128, 300, 1000])),
        bits=draw(st.sampled_from([8, 16])), group_size=draw(st.sampled_from([32, 128])),
    )  # fmt: skip
    return programs[draw(st.sampled_from(KINDS))]


@st.composite
def random_specs(draw: st.DrawFn) -> dict[str, Any]:
    """A machine with rates of any proportion: transfers that cost nothing, or everything."""
    spec = cpu(staged=draw(st.booleans()), threads=draw(st.integers(1, 7)))
    for name in ("transfer_bytes_per_s", "transfer_latency_s", "ddr_bytes_per_s", "launch_s", "clock_hz"):
        spec[name] *= 10 ** draw(st.floats(-2, 2))
    return {**spec, "name": "random", "token_tile_a16": float(draw(st.integers(1, 48)))}


def largest_run(program: Any) -> tuple[int, int]:
    """(rows, position) that the plan's predictions are for."""
    report = _core.describe_plan(program, make(program, cpu(), 1 << 40), cpu())
    return report["rows"], report["position"]


def make(program: Any, spec: dict[str, Any], budget: int) -> dict[str, Any]:
    plan: dict[str, Any] = _core.make_plan(program, spec, budget)
    return plan


def objective(program: Any, plan: dict[str, Any], spec: dict[str, Any]) -> float:
    """What the scheduler makes least (csrc/schedule/cost.h): predicted seconds, and 1/32 of the transfer engine's."""
    cost = _testing.simulate(program, plan, spec)
    return float(cost["seconds"] + cost["transfer_s"] / 32)


def live_sets(info: dict[str, Any]) -> list[tuple[int, set[int]]]:
    """(op, buffers alive) at each op of a run with every repetition written out: from a write to the last read before the next write."""
    order = [o for first, count, repeat in info["sections"] for _ in range(min(repeat, 3)) for o in range(first, first + count)]
    alive: list[tuple[int, set[int]]] = []
    wanted: set[int] = set()
    for o in reversed(order):
        op = info["ops"][o]
        reads = {b for b in op["in"] if b >= 0}
        written = {op["out"]} - {-1}
        now = wanted | written
        wanted = (wanted - (written - reads)) | reads
        alive.append((o, now | wanted))
    return alive[::-1]


class Shadow:
    """Fast memory with a note on every line of whose bytes lie there."""

    NOTHING, RING, SCRATCH = -1, -2, -3

    def __init__(self, plan: dict[str, Any]) -> None:
        self.owner = np.full(plan["peak_bytes"] // LINE, self.NOTHING)

    def lines(self, offset: int, size: int) -> slice:
        assert offset >= 0
        assert offset + size <= len(self.owner) * LINE, "beyond the peak"
        return slice(offset // LINE, -(-(offset + size) // LINE))

    def write(self, offset: int, size: int, owner: int) -> None:
        self.owner[self.lines(offset, size)] = owner

    def check(self, offset: int, size: int, owner: int, what: str) -> None:
        assert (self.owner[self.lines(offset, size)] == owner).all(), what


def run_in_shadow(program: Any, plan: dict[str, Any], rows: int, position: int) -> None:
    """Walks the steps: whatever a step reads must still lie where it was put."""
    shadow, ring = Shadow(plan), 2 * plan["ring_slot_bytes"]
    shadow.write(plan["ring_offset"], ring, Shadow.RING)
    for step in _testing.plan_steps(program, plan, rows, position):
        scratch = plan["ops"][step["op"]]
        if step["first"]:
            windows = {(w["buffer"], w["offset"]) for w in plan["windows"] if w["group"] == step["group"]}
            shadow.write(scratch["scratch_offset"], scratch["scratch_bytes"], Shadow.SCRATCH)
            for source, index, _, _, size, offset in step["loads"]:
                if source == "buffer" and (index, offset) in windows:
                    shadow.write(offset, size, index)
                else:
                    shadow.check(offset, size, Shadow.SCRATCH, "a load outside window and scratch")
        for buffer, offset, size in step["reads"]:
            shadow.check(offset, size, buffer, f"op {step['op']} reads buffer {buffer}, which was overwritten or never written")
        for buffer, offset, size in step["writes"]:
            shadow.write(offset, size, buffer)
        shadow.check(scratch["scratch_offset"], scratch["scratch_bytes"], Shadow.SCRATCH, "scratch was overwritten")
        shadow.check(plan["ring_offset"], ring, Shadow.RING, "the ring was overwritten")
        assert sum(size for *_, size, _ in step["streamed"]) <= ring


def check_streams(program: Any, plan: dict[str, Any], rows: int, position: int) -> None:
    """Of every linear, each byte of the weight is streamed once for each block of rows, in order."""
    done: dict[tuple[int, int, int], int] = {}
    for step in _testing.plan_steps(program, plan, rows, position):
        for source, index, repetition, offset, size, _ in step["streamed"]:
            if source != "weight" or plan["ops"][step["op"]]["block_units"] == 0:
                continue
            key = (step["op"], repetition, index)
            assert offset == (0 if step["first"] else done[key])
            done[key] = offset + size
    assert bool(done) == bool(plan["staged"] and any(op["block_units"] for op in plan["ops"]))


@given(small_programs(), random_specs(), st.floats(1, 6))
@FIXTURES
def test_plans_are_valid(program: Any, spec: dict[str, Any], factor: float) -> None:
    smallest = _core.smallest_budget(program, spec)
    budget = int(smallest * factor)
    plan = make(program, spec, budget)
    _core.check_plan(program, plan)
    assert plan["peak_bytes"] <= budget == plan["budget"]
    assert plan == make(program, spec, budget), "another plan the second time"

    memory = _testing.allocations(program, plan)
    for i, (_, _, offset, size, first, last) in enumerate(memory):
        assert offset % LINE == 0
        assert offset + size <= plan["peak_bytes"]
        for _, _, other, other_size, other_first, other_last in memory[:i]:
            if first <= other_last and other_first <= last:
                assert offset + size <= other or other + other_size <= offset
    assert max([-(-(o + n) // LINE) * LINE for _, _, o, n, _, _ in memory], default=0) == plan["peak_bytes"]

    # Lives, worked out from reads and writes alone.
    info = _testing.program_info(program)
    places = {b: (p["offset"], p["offset"] + info["buffers"][b]["bytes"]) for b, p in enumerate(plan["buffers"]) if p["home"] == "resident"}
    ddr = {b: (p["offset"], p["offset"] + info["buffers"][b]["bytes"]) for b, p in enumerate(plan["buffers"]) if p["home"] == "ddr"}
    for _, alive in live_sets(info):
        for home in (places, ddr):
            spans = sorted(home[b] for b in alive if b in home)
            assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert max([end for _, end in ddr.values()], default=0) <= plan["ddr_bytes"]

    rows, position = largest_run(program)
    for run in ((rows, position), (max(1, rows // 3), 5 if position else 0)):
        run_in_shadow(program, plan, *run)
        check_streams(program, plan, *run)


@given(small_programs(), random_specs(), st.lists(st.floats(1, 20), min_size=3, max_size=6))
@FIXTURES
def test_more_memory_is_never_worse(program: Any, spec: dict[str, Any], factors: list[float]) -> None:
    smallest = _core.smallest_budget(program, spec)
    costs = [objective(program, make(program, spec, int(smallest * f)), spec) for f in sorted(factors)]
    assert all(larger <= (1 + 1e-8) * smaller for smaller, larger in pairwise(costs))


@given(small_programs(), random_specs())
@FIXTURES
def test_the_smallest_budget_is_exact(program: Any, spec: dict[str, Any]) -> None:
    smallest = _core.smallest_budget(program, spec)
    plan = make(program, spec, smallest)
    assert plan["peak_bytes"] <= smallest
    if smallest == 1:  # a program of nothing but buffers in DDR, used in place
        assert plan["peak_bytes"] == 0
        return
    assert smallest % LINE == 0
    needs = f"{program.name} needs at least {smallest} bytes of fast memory on random, the budget is {smallest - LINE}"
    with pytest.raises(MemoryError, match=needs):
        make(program, spec, smallest - LINE)


@given(small_programs(), random_specs(), st.floats(1, 4))
@FIXTURES
def test_repetitions_are_extrapolated(program: Any, spec: dict[str, Any], factor: float) -> None:
    plan = make(program, spec, int(_core.smallest_budget(program, spec) * factor))
    short, long = _testing.simulate(program, plan, spec), _testing.simulate(program, plan, spec, walk_all=True)
    for name in ("bytes_in", "bytes_out", "transfers"):
        assert short[name] == long[name]
    for name in ("seconds", "compute_s", "transfer_s"):
        assert short[name] == pytest.approx(long[name], rel=1e-6)


def test_simulated_time_is_bounded_by_its_parts() -> None:
    for name, program in full().items():
        for spec in specs_of_full_shape().values():
            plan = make(program, spec, 4 * MIB)
            cost = _testing.simulate(program, plan, spec)
            assert max(cost["compute_s"], cost["transfer_s"]) <= cost["seconds"] * (1 + 1e-9), name
            assert cost["seconds"] <= (cost["compute_s"] + cost["transfer_s"]) * (1 + 1e-9), name
            assert (cost["bytes_in"] > 0) == spec["staged"], name


@pytest.mark.parametrize("spec", specs_of_full_shape().values(), ids=specs_of_full_shape())
def test_the_full_shape_plans_in_time(spec: dict[str, Any]) -> None:
    """All programs of the 1.8B shape: under 200 ms of processor time, the best of three."""
    programs = full()
    assert len(programs) == 8

    def once() -> float:
        start = time.process_time()
        for program in programs.values():
            make(program, spec, 7 * MIB)
        return time.process_time() - start

    assert min(once() for _ in range(3)) < 0.2


def test_a_large_tile_runs_whole_on_the_cpu() -> None:
    """With the default budget nothing is cut: blocking would cost time and save nothing."""
    for name in ("tile", "tile base", "projector", "projector base", "decode", "vrc"):
        program = full()[name]
        plan, info = make(program, cpu(), 8 * MIB), _testing.program_info(program)
        assert all(g["block_rows"] == info["ops"][g["first_op"]]["rows"] for g in plan["groups"]), name
        assert all(b["home"] != "ddr" for b in plan["buffers"]), name
        assert plan["ddr_bytes"] == 0


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "staged"])
@pytest.mark.parametrize("stage", ["tile", "tile base", "projector", "vrc"])
def test_half_a_mebibyte_is_enough(stage: str, staged: bool) -> None:
    program, spec = full()[stage], cpu(staged=staged)
    plan = make(program, spec, MIB // 2)
    assert plan["peak_bytes"] <= MIB // 2
    larger = make(program, spec, 8 * MIB)
    assert (1 + 1e-8) * objective(program, plan, spec) >= objective(program, larger, spec)
    assert plan != {**larger, "budget": plan["budget"]}


def refusal(call: Callable[..., object], *args: object) -> str:
    """The message of the ValueError that a call raises; "" when it raises none."""
    try:
        call(*args)
    except ValueError as error:
        return str(error)
    return ""


def mutations(plan: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a plan with one thing wrong."""

    def changed(path: tuple[Any, ...], value: Any) -> tuple[str, dict[str, Any]]:
        other = copy.deepcopy(plan)
        at: Any = other
        for key in path[:-1]:
            at = at[key]
        assert at[path[-1]] != value
        at[path[-1]] = value
        return "/".join(map(str, path)), other

    yield changed(("version",), plan["version"] + 1)
    yield changed(("program",), "0" * 16)
    yield changed(("contexts",), 0)
    yield changed(("contexts",), plan["contexts"] + 8)  # the attention's scratch is for fewer
    yield changed(("staged",), not plan["staged"])
    for field in ("budget", "peak_bytes"):
        yield changed((field,), plan["peak_bytes"] - LINE)
    yield changed(("ddr_bytes",), plan["ddr_bytes"] - LINE)
    yield changed(("ring_slot_bytes",), plan["ring_slot_bytes"] // 4 // LINE * LINE)
    yield changed(("ring_offset",), plan["ring_offset"] + 64)
    yield changed(("groups",), plan["groups"][:-1])
    yield changed(("groups",), plan["groups"] + plan["groups"][-1:])
    group = plan["groups"][1]
    for field, value in (("section", group["section"] + 1), ("first_op", group["first_op"] + 1), ("op_count", group["op_count"] + 1)):
        yield changed(("groups", 1, field), value)
    for value in (0, group["block_rows"] + 1, 1 << 20):
        yield changed(("groups", 1, "block_rows"), value)
    yield changed(("ops",), plan["ops"][:-1])
    linear = next(i for i, op in enumerate(plan["ops"]) if op["block_units"] and not op["block_keys"])
    yield changed(("ops", linear, "block_units"), -1)
    yield changed(("ops", linear, "block_units"), 1 << 20)
    attention = next(i for i, op in enumerate(plan["ops"]) if op["block_keys"])
    for value in (plan["ops"][attention]["block_keys"] + 1, -256):
        yield changed(("ops", attention, "block_keys"), value)
    yield changed(("ops", attention, "scratch_bytes"), plan["ops"][attention]["scratch_bytes"] - LINE)
    yield changed(("ops", attention, "scratch_offset"), plan["peak_bytes"])
    yield changed(("buffers",), plan["buffers"][:-1])
    for home in ("none", "resident", "ddr", "bound"):
        for b, buffer in enumerate(plan["buffers"]):
            if buffer["home"] != home and "bound" in (home, buffer["home"]):
                yield changed(("buffers", b, "home"), home)
                break
    crossing = next(b for b, buffer in enumerate(plan["buffers"]) if buffer["home"] in ("resident", "ddr"))
    yield changed(("buffers", crossing, "home"), "none")
    yield changed(("buffers", crossing, "offset"), plan["ddr_bytes"] + plan["peak_bytes"])
    yield changed(("buffers", crossing, "offset"), -LINE)
    yield changed(("windows",), plan["windows"][:-1])
    yield changed(("windows",), plan["windows"][::-1])
    window = plan["windows"][0]
    for field, value in (("group", 99), ("buffer", 999), ("bytes", 0), ("offset", plan["peak_bytes"]), ("offset", window["offset"] + 1)):
        yield changed(("windows", 0, field), value)


def test_mutated_plans_are_refused() -> None:
    program = full()["tile"]
    plan = make(program, cpu(staged=True), MIB)
    assert {b["home"] for b in plan["buffers"]} >= {"none", "ddr", "bound"}
    _core.check_plan(program, plan)
    for what, mutated in mutations(plan):
        assert "plan" in refusal(_core.check_plan, program, mutated), what


def test_every_allocation_matters() -> None:
    """Moving anything onto something that lives at the same time is noticed."""
    program = full()["tile base"]
    plan = make(program, cpu(staged=True), 2 * MIB)
    memory = _testing.allocations(program, plan)
    clashes = 0
    for i, (kind, index, offset, _, first, last) in enumerate(memory):
        for _, _, other, _, other_first, other_last in memory[:i]:
            if first > other_last or other_first > last or offset == other:
                continue
            moved = copy.deepcopy(plan)
            if kind == "ring":
                moved["ring_offset"] = other
            else:
                place = {"resident": "buffers", "window": "windows", "scratch": "ops"}[kind]
                moved[place][index]["scratch_offset" if kind == "scratch" else "offset"] = other
            message = refusal(_core.check_plan, program, moved)
            assert "overlap" in message or "ends at byte" in message
            clashes += 1
    assert clashes > 50


@pytest.mark.parametrize("budget", [0, -1, (1 << 40) + 1])
def test_a_budget_out_of_range_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"budget is {budget} bytes, expected 1 .. 2^40")):
        make(full()["head"], cpu(), budget)


def test_an_infeasible_budget_names_the_least() -> None:
    program = full()["tile"]
    needs = r"siglip2_tile needs at least (\d+) bytes of fast memory on cpu-staged, the budget is 1000"
    with pytest.raises(MemoryError, match=needs) as error:
        make(program, cpu(staged=True), 1000)
    found = re.search(needs, str(error.value))
    assert found
    least = int(found[1])
    assert make(program, cpu(staged=True), least)["peak_bytes"] <= least


def broken_specs() -> Iterator[tuple[str, float]]:
    for name in cpu():
        if name in ("name", "staged"):
            continue
        yield from ((name, value) for value in (float("nan"), float("inf"), -1.0))
        if name not in ("reserved_bytes", "cache_bytes", "transfer_latency_s", "launch_s"):
            yield name, 0.0
    yield "reserved_bytes", float(8 * MIB)
    yield "fast_bytes", 2.0**41
    yield "contexts", 1.5
    yield "contexts", 5000.0


def test_bad_specs_are_refused() -> None:
    for name, value in broken_specs():
        assert f"spec cpu: {name} is " in refusal(_core.check_spec, {**cpu(), name: value}), f"{name} = {value}"


def test_presets_can_be_planned_for() -> None:
    for name in ("hexagon-v68", "hexagon-v81"):
        spec: HardwareSpec = preset(name)
        for program in full().values():
            assert make(program, spec.values(), spec.budget)["peak_bytes"] <= spec.budget

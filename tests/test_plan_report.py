"""Plans of an engine: what they report, how they are saved and refused, the command, the trace and the picture."""

from __future__ import annotations

import dataclasses
import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import CheckpointError, _core, load
from hypervl_engine.cli import main
from hypervl_engine.convert import convert_random
from hypervl_engine.engine import Engine
from hypervl_engine.memory_map import Panel, memory_map
from hypervl_engine.plan import Plan, PlanFile, parse_bytes
from hypervl_engine.plan_view import picture as draw
from hypervl_engine.plan_view import processes, table, with_events, write_files
from hypervl_engine.trace import Part, Process, trace_events, write_trace
from PIL import Image

SIZE = (150, 100)  # several tiles, at the edges smaller ones
TARGETS = (None, "cpu-staged", "hexagon-v73")


@pytest.fixture(scope="module", params=TARGETS, ids=str)
def plan(engine: Engine, request: pytest.FixtureRequest) -> Plan:
    return engine.plan(SIZE, target=request.param)


@pytest.fixture(scope="module")
def own(engine: Engine) -> Plan:
    return engine.plan(SIZE)


# --- What a plan says.


def test_stages(engine: Engine, own: Plan) -> None:
    names = [stage.name for stage in own.stages]
    tiles = {name: stage.runs for name, stage in zip(names, own.stages, strict=True) if name.startswith("tile ")}
    sizes = _core.tile_sizes(engine.model, SIZE[1], SIZE[0], 1.0)
    assert len(tiles) > 1
    assert tiles == {f"tile {h}x{w}": sizes.count((h, w)) for h, w in sizes}
    assert sum(tiles.values()) == engine.model.plan_image(SIZE[1], SIZE[0], 1.0)["tiles"]
    projectors = [name.replace("tile", "projector") for name in tiles]
    assert sorted(names) == sorted(["vrc", "prefill", "decode", "head", *tiles, *projectors])
    prompt = len(engine.model.image_token_ids(SIZE[1], SIZE[0], 1.0)) + 32
    stages = dict(zip(names, own.stages, strict=True))
    assert (stages["decode"].rows, stages["decode"].position) == (1, prompt)
    assert stages["prefill"].runs == -(-prompt // 128)


def test_report_adds_up(plan: Plan) -> None:
    for stage, report in zip(plan.stages, plan.reports, strict=True):
        assert report["spec"] == plan.spec.name
        assert report["program_hash"] == stage.plan["program"]
        for name in ("bytes_in", "bytes_out", "transfers"):
            assert sum(op[name] for op in report["ops"]) == report[name]
        for name, total in (("ms", "predicted_ms"), ("compute_ms", "compute_ms"), ("transfer_ms", "transfer_ms")):
            assert sum(op[name] for op in report["ops"]) == pytest.approx(report[total], rel=1e-6)
        assert sum(s["op_count"] for s in report["sections"]) == len(report["ops"])
        assert sum(g["op_count"] for g in report["groups"]) == len(report["ops"])
        for op in report["ops"]:
            assert op["bound"] in ("compute", "memory", "transfer", "launch")
            assert 0 < op["block_rows"] <= max(1, op["rows"])
            assert 0 < op["block_n"] <= op["n"]
            assert op["block_k"] == op["k"]
            assert 0 <= op["peak_bytes"] <= report["peak_bytes"]
            assert op["steps"] >= report["sections"][op["section"]]["repeat"]
        if report["allocations"]:
            assert max(op["peak_bytes"] for op in report["ops"]) <= report["peak_bytes"] <= report["budget"]
        assert plan.spec.staged == (report["transfers"] > 0)
        if not plan.spec.staged:
            assert report["bytes_in"] == report["bytes_out"] == 0


def test_allocations_do_not_overlap(plan: Plan) -> None:
    """What the picture shows: live at the same op, never on the same byte."""
    for report in plan.reports:
        for a, b in itertools.combinations(report["allocations"], 2):
            apart = a["last_op"] < b["first_op"] or b["last_op"] < a["first_op"]
            beside = a["offset"] + a["bytes"] <= b["offset"] or b["offset"] + b["bytes"] <= a["offset"]
            assert apart or beside, (a, b)


def test_linear_names_and_sizes(engine: Engine, own: Plan) -> None:
    vision = engine.config.vision_configs[engine.default_branch]
    index = next(i for i, stage in enumerate(own.stages) if stage.name.startswith("tile"))
    ops = [op for op in own.reports[index]["ops"] if op["kind"] == "linear"]
    assert [op["name"] for op in ops] == [
        "patch_embedding", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2",
    ]  # fmt: skip
    by_name = {op["name"]: op for op in ops}
    assert (by_name["mlp.fc1"]["n"], by_name["mlp.fc1"]["k"]) == (vision.intermediate_size, vision.hidden_size)


def test_memory(engine: Engine, own: Plan) -> None:
    session = engine.new_session()
    memory = own.memory
    assert memory["weights"] == engine.model.weight_bytes
    assert memory["kv_cache"] == session.stats()["kv_cache_bytes"]
    assert memory["fast_budget"] == engine.budget
    assert memory["fast_peak"] == max(report["peak_bytes"] for report in own.reports) <= engine.budget
    assert memory["image_source"] == 150 * 100 * 3
    assert memory["visual_embeddings"] < own.image["visual_tokens"] * engine.config.text_config.hidden_size * 4
    # The image's size changes nothing but the image's own lines.
    larger = engine.plan((300, 200)).memory
    assert {name for name in memory if memory[name] != larger[name]} == {"image_source", "image_resized"}


def test_totals(own: Plan) -> None:
    totals = own.totals
    assert all(value > 0 for value in totals.values())
    stages = zip(own.stages, own.reports, strict=True)
    assert totals["encode_ms"] == pytest.approx(sum(s.runs * r["predicted_ms"] for s, r in stages if s.name.startswith("tile")))
    assert totals["ttft_ms"] > totals["vrc_ms"] + totals["encode_ms"] + totals["project_ms"] + totals["prefill_ms"]


def test_arguments(engine: Engine) -> None:
    for image_size in ((0, 10), (10,), 5, "10x10", (10.0, 10), (True, 10), (1 << 25, 10), None):
        with pytest.raises(ValueError, match="image_size"):
            engine.plan(image_size)  # type: ignore[arg-type]
    for options, message in (
        ({"scale": 0.0}, "scale"), ({"scale": float("nan")}, "scale"), ({"branch": "huge"}, "branch"), ({"text_tokens": -1}, "text_tokens"),
        ({"target": "hexagon-v1"}, "hexagon-v73"), ({"budget": "plenty"}, "budget"), ({"budget": 0}, "budget"),
        ({"text_tokens": 10**6}, "context_length"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            engine.plan(SIZE, **options)
    with pytest.raises(ValueError, match="lower the scale"):
        engine.plan((8000, 8000))


def test_budget(engine: Engine) -> None:
    with pytest.raises(MemoryError, match=r"\d"):
        engine.plan(SIZE, target="hexagon-v73", budget=1024)
    small = engine.plan(SIZE, target="hexagon-v73", budget="1MiB")
    assert small.memory["fast_peak"] <= 1 << 20
    assert small != engine.plan(SIZE, target="hexagon-v73")


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 << 20), (" 512 kib ", 512 << 10), ("1.5 MiB", 3 << 19), ("8388608", 8 << 20), ("2MB", 2 * 10**6), (4096, 4096)],
)
def test_parse_bytes(text: Any, size: int) -> None:
    assert parse_bytes(text, "vtcm") == size


@pytest.mark.parametrize("text", ["", "MiB", "8 MiBs", "-1", "1e6", "٣MiB", "1.2.3", "0", 0, -5, True, 1.5, None, "9" * 50])
def test_parse_bytes_bad(text: Any) -> None:
    with pytest.raises(ValueError, match="vtcm is"):
        parse_bytes(text, "vtcm")


# --- Saved and loaded.


def test_saved_and_loaded(engine: Engine, plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json", engine)
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.hash == plan.hash
    assert again.reports == plan.reports
    assert again.memory == plan.memory
    assert PlanFile.read(tmp_path / "plan.json") == plan.file
    assert plan != plan.file


def test_planned_twice(engine: Engine) -> None:
    assert engine.plan(SIZE, target="hexagon-v69").hash == engine.plan(SIZE, target="hexagon-v69").hash
    assert len({engine.plan(SIZE, target=target).hash for target in TARGETS}) == len(TARGETS)


@pytest.fixture
def edited_plan(own: Plan, tmp_path: Path) -> Callable[..., Path]:
    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        content = json.loads(json.dumps(own.file.to_dict()))
        change(content)
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(content))
        return path

    return make


def tile(content: dict[str, Any]) -> dict[str, Any]:
    return next(stage for stage in content["stages"] if stage["name"].startswith("tile"))


def overlap(content: dict[str, Any]) -> None:
    windows = tile(content)["plan"]["windows"]
    for window in windows:
        window["offset"] = 0


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "engine version": (lambda c: c.update(engine_version="0.0.1"), "plan again"),
    "plan version": (lambda c: c.update(plan_version=99), "plan again"),
    "format": (lambda c: c.update(format="poem"), "expected a plan"),
    "field missing": (lambda c: c.pop("budget"), "budget"),
    "field unknown": (lambda c: c.update(note=1), "note"),
    "budget text": (lambda c: c.update(budget="8MiB"), "budget"),
    "request": (lambda c: c["request"].pop("branch"), "request"),
    "request type": (lambda c: c["request"].update(width="150"), "width"),
    "image": (lambda c: c["request"].update(width=640), "stages"),
    "image size": (lambda c: c["request"].update(width=0), "image_size"),
    "branch": (lambda c: c["request"].update(branch="huge"), "huge"),
    "branch not text": (lambda c: c["request"].update(branch="\ud800"), "branch"),
    "context": (lambda c: c["request"].update(context_length=77), "context_length"),
    "activations": (lambda c: c["request"].update(activation_bits=8), "activation_bits"),
    "cache": (lambda c: c["request"].update(kv_bits=8), "kv_bits"),
    "spec": (lambda c: c["spec"]["figures"].pop("clock_hz"), "clock_hz"),
    "spec name": (lambda c: c["spec"].update(name="other"), "spec"),
    "other budget": (lambda c: c.update(budget=c["budget"] + 1), "budget"),
    "stage missing": (lambda c: c["stages"].pop(), "stages"),
    "stage not an object": (lambda c: c["stages"].append(3), r"stages\["),
    "runs": (lambda c: tile(c).update(runs=5), "stages"),
    "plans swapped": (lambda c: tile(c).update(plan=c["stages"][-1]["plan"]), "another program"),
    "plan's own version": (lambda c: tile(c)["plan"].update(version=99), "version"),
    "plan field missing": (lambda c: tile(c)["plan"].pop("ops"), "ops"),
    "plan field unknown": (lambda c: tile(c)["plan"].update(extra=1), "fields"),
    "offset text": (lambda c: tile(c)["plan"]["buffers"][0].update(offset="0"), r"buffers\[0\].offset"),
    "offset huge": (lambda c: tile(c)["plan"]["buffers"][0].update(offset=10**30), r"buffers\[0\].offset"),
    "offset true": (lambda c: tile(c)["plan"]["buffers"][0].update(offset=True), r"buffers\[0\].offset"),
    "home not text": (lambda c: tile(c)["plan"]["buffers"][0].update(home="\ud800"), r"buffers\[0\].home"),
    "home": (lambda c: tile(c)["plan"]["buffers"][0].update(home="moon"), r"buffers\[0\].home"),
    "program": (lambda c: tile(c)["plan"].update(program="xyz"), "program"),
    "groups gone": (lambda c: tile(c)["plan"].update(groups=[]), "edited.json"),
    "blocks of no rows": (lambda c: tile(c)["plan"]["groups"][0].update(block_rows=0), "edited.json"),
    "overlap": (overlap, "edited.json"),
    "beyond the budget": (lambda c: tile(c)["plan"]["windows"][0].update(offset=1 << 40), "edited.json"),
    "ring out of step": (lambda c: tile(c)["plan"].update(ring_slot_bytes=100), "ring"),
    "window too small": (lambda c: tile(c)["plan"]["windows"][0].update(bytes=1), "edited.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, edited_plan: Callable[..., Path], engine: Engine) -> None:
    change, message = REFUSED[case]
    path = edited_plan(change)
    with pytest.raises(ValueError, match=message) as error:
        Plan.load(path, engine)
    assert str(error.value).startswith(str(path))


def test_refused_for_another_checkpoint(edited_plan: Callable[..., Path], engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="another checkpoint"):
        Plan.load(edited_plan(lambda c: c.update(checkpoint="0" * 16)), engine)
    # Same shapes, other weights.
    convert_random("tiny", tmp_path / "other", seed=5, progress=False)
    other = load(tmp_path / "other", threads=engine.model.threads, progress=False)
    engine.plan(SIZE).save(tmp_path / "plan.json")
    with pytest.raises(CheckpointError, match="another checkpoint"):
        Plan.load(tmp_path / "plan.json", other)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"format": "hypervl-engine plan"}'])
def test_not_a_plan(text: str, tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json"):
        Plan.load(tmp_path / "plan.json", engine)
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "none.json", engine)


def test_core_describe_plan_checks(engine: Engine, own: Plan) -> None:
    program, stage, values = own.programs[-2], own.stages[-2], own.spec.values()
    assert stage.name == "decode"
    for options in ({"rows": 2}, {"rows": -1}, {"rows": 1, "position": 10**6}, {"position": -1}):
        with pytest.raises(ValueError, match="rows and position"):
            _core.describe_plan(program, stage.plan, values, **options)
    with pytest.raises(ValueError, match="figures are those of"):
        _core.describe_plan(program, stage.plan, {**values, "name": "other"})


# --- The trace.


def check_trace(path: Path) -> list[dict[str, Any]]:
    """Slices in order and without overlap on every track; returns them."""
    events = json.loads(path.read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    for track in {(e["pid"], e["tid"]) for e in slices}:
        assert track in named
        on_track = [e for e in slices if (e["pid"], e["tid"]) == track]
        assert all(e["dur"] >= 0 for e in on_track)
        for a, b in itertools.pairwise(on_track):
            assert a["ts"] + a["dur"] <= b["ts"] + 1e-6, (a, b)
    return slices


def test_trace(plan: Plan, tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.json", processes(plan))
    slices = check_trace(tmp_path / "trace.json")
    stages = [e for e in slices if e["cat"] == "stage"]
    assert [e["name"].split(" (")[0] for e in stages] == [stage.name for stage in plan.stages]
    for stage, report in zip(stages, plan.reports, strict=True):
        inside = [e for e in slices if e["tid"] and 0 < e["ts"] + e["dur"] / 2 - stage["ts"] < stage["dur"]]
        compute = [e for e in inside if e["tid"] == 1]
        assert len(compute) == sum(op["steps"] for op in report["ops"])
        assert sum(e["dur"] for e in compute) / 1e3 == pytest.approx(report["compute_ms"], rel=0.01)
        moved = sum(e["args"]["bytes"] for e in inside if e["tid"] == 2)
        assert moved == report["bytes_in"] + report["bytes_out"]


def test_trace_of_a_run_beside_the_plan(engine: Engine, picture: np.ndarray, own: Plan, tmp_path: Path) -> None:
    with engine.stream(picture, "what is it?", max_new_tokens=2, scale=1.0) as stream:
        stream.record()
        for _ in stream:
            pass
    assert stream.trace
    assert {name for name, _ in stream.trace} >= {"siglip2_tile", "projector", "qwen3_layers"}
    write_trace(tmp_path / "trace.json", processes(own, stream.trace))
    slices = check_trace(tmp_path / "trace.json")
    assert {e["pid"] for e in slices} == {1, 2}
    measured = sum(name == "siglip2_tile" for name, _ in stream.trace)
    assert measured == sum(stage.runs for stage in own.stages if stage.name.startswith("tile"))


def test_trace_rounding() -> None:
    """Steps that meet stay beside each other, whatever their times round to."""
    shared = {
        "track": "compute", "store": False, "op": 0, "kind": "norm", "name": "x", "section": "s", "repetition": 0, "block": 0,
        "rows": (0, 1), "units": (0, 0), "keys": (0, 0), "bytes": 0, "transfers": 0,
    }  # fmt: skip
    events = [{**shared, "start_us": i / 3, "duration_us": 1 / 3} for i in range(1000)]
    slices = [e for e in trace_events([Process("p", [Part("a", events), Part("b", events)])]) if e.get("tid") == 1 and e["ph"] == "X"]
    assert len(slices) == 2000
    for a, b in itertools.pairwise(slices):
        assert a["ts"] + a["dur"] <= b["ts"] + 1e-9


# --- The picture.


def test_picture(plan: Plan) -> None:
    root = ET.fromstring(draw(plan))
    space = "{http://www.w3.org/2000/svg}"
    drawn = [g for g in root.iter(space + "g") if "data-allocation" in g.attrib]
    wanted = [a for report in plan.reports for a in report["allocations"] if a["bytes"] > 0]
    assert len(drawn) == len(wanted) > 0
    for group, allocation in zip(drawn, wanted, strict=True):
        assert allocation["name"] in str(group.findtext(space + "title"))
        rectangles = group.findall(space + "rect")
        assert rectangles
        for r in rectangles:
            assert float(r.attrib["x"]) >= 95
            assert float(r.attrib["x"]) + float(r.attrib["width"]) <= 1400
            assert float(r.attrib["height"]) > 0
    text = " ".join(t.text or "" for t in root.iter(space + "text"))
    for word in (
        "offset in fast memory",
        "time, ms",
        "window",
        "resident",
        "linear",
        "attention",
        "predicted",
        "fast memory",
        plan.spec.name,
    ):
        assert word in text
    assert ("load" in text.split()) >= plan.spec.staged


def test_picture_leaves_repetitions_out(own: Plan) -> None:
    """The time axis of a panel is that of one repetition, and prefetched transfers lie before what they are for."""
    report = next(r for s, r in zip(own.stages, with_events(own), strict=True) if s.name.startswith("tile"))
    assert max(s["repeat"] for s in report["sections"]) > 1
    root = ET.fromstring(memory_map("x", [], [Panel("y", report)]))
    text = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum("repetitions shown" in t for t in text) == 1
    ticks = [float(t) for t in text if t.replace(".", "", 1).isdecimal()]
    assert 0 < max(ticks) < report["predicted_ms"]


def test_picture_escapes() -> None:
    svg = memory_map('<&">', ["a < b"], [])
    assert ET.fromstring(svg) is not None


# --- The command.


@pytest.fixture
def options(tiny: Path) -> list[str]:
    return ["plan", "--model", str(tiny), "--threads", "2", "--quiet", "--image", "150x100"]


def test_command(options: list[str], engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "er"
    assert main([*options, "--target", "hexagon-v73", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    for word in ("hexagon-v73", "150x100", "predict", "self_attn.q_proj", "bound by", "KV cache", "first token", "assumed"):
        assert word in printed.out
    assert sorted(p.name for p in out.iterdir()) == ["plan.json", "plan.svg", "report.json", "trace.json"]
    assert all(name in printed.err for name in ("plan.json", "plan.svg"))
    check_trace(out / "trace.json")
    ET.fromstring((out / "plan.svg").read_text())
    loaded = Plan.load(out / "plan.json", engine)
    assert loaded.spec.name == "hexagon-v73"
    assert loaded.hash in printed.out
    assert main([*options, "--target", "hexagon-v73", "--out", str(out)]) == 0  # again, over the files there


def test_command_json(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--target", "cpu-staged", "--branch", "large", "--vtcm", "2MiB", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["request"]["branch"] == "large"
    assert report["budget"] == 2 << 20
    assert report["spec"]["figures"]["clock_hz"]["status"] in ("assumed", "measured")
    assert report["memory"]["fast_peak"] <= 2 << 20
    assert {stage["name"] for stage in report["stages"]} >= {"prefill", "decode", "head"}
    assert all(stage["report"]["ops"] for stage in report["stages"])
    assert report["predicted"]["ttft_ms"] > 0


def test_command_with_a_file(options: list[str], own: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = dataclasses.replace(own.spec, name="my-machine")
    spec.save(tmp_path / "mine.json")
    assert main([*options, "--target", str(tmp_path / "mine.json")]) == 0
    assert "my-machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        ["--target", "hexagon-v1"], ["--target", "/none.json"], ["--vtcm", "lots"], ["--branch", "huge"], ["--scale", "2"],
        ["--text-tokens", "-3"], ["--image", "90000x90000"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_command_refuses(wrong: list[str], options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_too_small(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--target", "hexagon-v73", "--vtcm", "1KiB"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("size", ["1024", "x", "10x", "ax10", "5x-5", "1e3x10", "٣x٣"])
def test_command_image(size: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*options, "--image", size])
    assert end.value.code == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


def test_generate_with_trace(tiny: Path, picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    trace = tmp_path / "trace.json"
    options = ["generate", "--model", str(tiny), "--threads", "2", "--quiet", "--max-new-tokens", "2", "--trace", str(trace)]
    assert main([*options, "--image", str(tmp_path / "picture.png"), "what is it?"]) == 0
    assert {e["pid"] for e in check_trace(trace)} == {1, 2}
    assert main([*options, "hello"]) == 0  # no image: no plan beside it
    assert {e["pid"] for e in check_trace(trace)} == {1}
    capsys.readouterr()


def test_table(plan: Plan) -> None:
    text = table(plan)
    lines = text.splitlines()
    assert plan.hash in lines[0]
    assert max(map(len, lines)) < 200
    tile_title = next(line for line in lines if line.startswith("tile "))
    assert "predicted" in tile_title
    assert sum(line.startswith("  sum") for line in lines) == len(plan.stages)


def test_files_of_a_run(own: Plan, tmp_path: Path) -> None:
    measured = [("siglip2_tile", own.describe(1, 1)["events"])]
    assert [p.name for p in write_files(own, tmp_path / "out", measured)] == ["plan.json", "report.json", "trace.json", "plan.svg"]
    assert {e["pid"] for e in check_trace(tmp_path / "out" / "trace.json")} == {1, 2}

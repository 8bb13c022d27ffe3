"""The experiments' own logic: fits, crossings, results that survive an interruption, processes that are measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.experiments import budget_sweep, child, tile_memory_profile
from tools.experiments.fit import Curve, crossing, exponent
from tools.experiments.machine import MIB, measure_runs
from tools.experiments.results import ResultsFile
from tools.experiments.tile_latency_ab import ratios
from tools.experiments.tile_memory_profile import Case, all_cases, less_noisy, wanted
from tools.experiments.tile_memory_report import without_noisy, write_report
from tools.experiments.vision_shapes import SHAPES, tokens_of


def test_exponent_of_powers() -> None:
    pixels = [s * s for s in (224, 512, 1024, 2048)]
    assert exponent(pixels, [3 * n for n in pixels]) == pytest.approx(1)
    assert exponent(pixels, [0.1 * n**1.5 for n in pixels]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two different x"):
        exponent([4, 4], [1, 2])


def test_curve_interpolates_and_extrapolates() -> None:
    def time_of(side: int) -> float:
        return 2.0 * side**2 + 3e-5 * side**4

    curve = Curve({side: time_of(side) for side in (256, 512, 1024, 2048)}, (1, 2))
    assert curve.at(512) == pytest.approx(time_of(512))
    assert curve.at(4096) == pytest.approx(time_of(4096), rel=1e-6)
    assert curve.at(128) == pytest.approx(time_of(128), rel=1e-6)
    assert time_of(512) < curve.at(700) < time_of(1024)
    assert [curve.extrapolated(side) for side in (255, 256, 2048, 2049)] == [True, False, False, True]


def test_curve_of_memory_has_a_constant() -> None:
    curve = Curve({side: 5e7 + 40.0 * side**2 for side in (224, 512, 1024, 2048)}, (0, 1, 2))
    assert curve.at(4096) == pytest.approx(5e7 + 40.0 * 4096**2, rel=1e-3)
    falling = Curve({256: 10.0, 512: 9.0}, (0, 1, 2))  # noise must not extrapolate below zero
    assert falling.at(16384) > 0


def test_crossing_is_where_the_ratio_stays_above() -> None:
    sides = (224, 512, 1024, 2048)
    tiled = Curve({s: float(s**2) for s in sides}, (1, 2))
    whole = Curve({s: s**2 * (1 + (s / 1000) ** 2) for s in sides}, (1, 2))
    found = crossing(tiled, whole, 10.0)  # 1 + (s / 1000)^2 = 10 at s = 3000
    assert found is not None
    assert found == pytest.approx(3000, abs=16)
    assert tiled.extrapolated(found)
    assert crossing(tiled, tiled, 1.5) is None
    assert crossing(tiled, whole, 1e-6) == 224


def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    ResultsFile(path).add({"a": 1, "b": 2}, {"status": "timeout"})
    ResultsFile(path).add({"b": 2, "a": 1}, {"status": "ok"})  # the last one counts, in any order of keys
    with path.open("a") as file:
        file.write('{"case": {"a": 3}, "resu')  # killed while writing
    results = ResultsFile(path)
    assert results.get({"a": 1, "b": 2}) == {"status": "ok"}
    assert results.get({"a": 3}) is None
    results.add({"a": 3}, {"status": "ok"})
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 3
    assert ResultsFile(path, fresh=True).get({"a": 1, "b": 2}) is None


def test_damaged_results_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('nonsense\n{"case": {}, "result": {}}\n')
    with pytest.raises(ValueError, match="line 1"):
        ResultsFile(path)


def test_what_is_measured_again() -> None:
    case = all_cases(False)[0]
    ok, noisy, failed = {"status": "ok", "noisy": False}, {"status": "ok", "noisy": True}, {"status": "timeout"}
    assert [wanted(case, r, None) for r in (None, ok, noisy, failed)] == [True, False, False, False]
    assert [wanted(case, r, "noisy") for r in (ok, noisy, failed)] == [False, True, False]
    assert [wanted(case, r, "failed") for r in (ok, noisy, failed)] == [False, False, True]
    assert wanted(case, ok, "all")
    quieter, busier = {"status": "ok", "others": [0.5, 0.1]}, {"status": "ok", "others": [0.2]}
    assert less_noisy(quieter, busier)
    assert not less_noisy(busier, quieter)
    assert not less_noisy(failed, busier)


def test_cases_are_distinct_and_untiled_ends_at_2048() -> None:
    cases = all_cases(True)
    assert len({c.label for c in cases}) == len(cases)
    assert max(c.image for c in cases if c.tile is None) == 2048
    assert {c.tile for c in cases if c.engine == "hypervl"} >= {None, 128, 256, 512}


def test_work_of_the_towers() -> None:
    # What peers.md lists for 256 and 1024 patches.
    assert SHAPES["large"].operations(tokens_of(256)) / 1e9 == pytest.approx(161.5, rel=0.01)
    assert SHAPES["base"].operations(tokens_of(512)) / 1e9 == pytest.approx(214, rel=0.01)


# In a process of its own: what tests before have left in this one may be freed, or taken back by the system, in the middle of the run.
MEMORY_OF_A_RUN = """
import json
import numpy as np
from tools.experiments.machine import MIB, measure_runs

kept = []

def run():
    if not kept:  # the first run is the one whose memory counts
        np.ones(64 * MIB, dtype=np.uint8)
        kept.append(np.ones(16 * MIB, dtype=np.uint8))

print(json.dumps(measure_runs(run, seconds=0.2, most=3)))
"""


def test_memory_of_a_run_is_its_peak() -> None:
    run = [sys.executable, "-c", MEMORY_OF_A_RUN]
    measured = json.loads(subprocess.run(run, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True).stdout)
    assert 60 * MIB < measured["growth_bytes"] < 100 * MIB
    assert measured["peak_rss_bytes"] > measured["growth_bytes"]
    assert 1 <= len(measured["samples_ms"]) <= 3


def test_a_long_first_run_is_the_sample() -> None:
    measured = measure_runs(lambda: time.sleep(0.05), seconds=0.01)
    assert len(measured["samples_ms"]) == 1
    assert measured["latency_ms"] >= 50


def test_children_answer_fail_and_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    (tmp_path / "good.py").write_text(
        "from tools.experiments.child import serve\nserve(lambda case: {'twice': 2 * case['x'], 'status': case.get('as', 'ok')})\n"
    )
    (tmp_path / "bad.py").write_text("from tools.experiments.child import serve\nserve(lambda case: 1 / 0)\n")
    (tmp_path / "gone.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    path = {"PYTHONPATH": f"{tmp_path}:{root}"}
    good = child.run_child("good", {"x": 4}, time_limit_s=60, extra_env=path)
    assert (good["status"], good["twice"]) == ("ok", 8)
    assert child.run_child("good", {"x": 4, "as": "skipped"}, time_limit_s=60, extra_env=path)["status"] == "skipped"
    bad = child.run_child("bad", {}, time_limit_s=60, extra_env=path)
    assert (bad["status"], bad["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "exit code 3" in child.run_child("gone", {}, time_limit_s=60, extra_env=path)["reason"]
    assert child.run_child("slow", {}, time_limit_s=0.1, extra_env=path)["status"] == "timeout"
    monkeypatch.setattr(child, "available_bytes", lambda: 0)
    assert child.run_child("slow", {}, time_limit_s=60, extra_env=path)["status"] == "memory"


def test_sweep_fails_where_outputs_differ(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "r.jsonl")
    first, second, third = budget_sweep.cases()[:3]
    results.add(first, {"status": "infeasible", "reason": "too small"})
    results.add(second, {"status": "ok", "sha256": "aa"})
    assert budget_sweep.different_outputs(results) == []
    results.add(third, {"status": "ok", "sha256": "bb"})
    assert len(budget_sweep.different_outputs(results)) == 1


def test_ratio_is_the_median_of_rounds() -> None:
    rounds = [({"x": 10.0}, {"x": 9.0}), ({"x": 20.0}, {"x": 18.0}), ({"x": 10.0}, {"x": 30.0})]
    assert ratios(rounds) == {"x": pytest.approx(0.9)}


def test_report_of_made_up_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.experiments.tile_memory_report.plot", lambda measured, path: None)  # matplotlib is not a test requirement
    results = ResultsFile(tmp_path / "r.jsonl")
    for case in all_cases(False):
        if case.attention == "eager" and case.image > 1024:
            results.add(case.record, {"status": "skipped", "reason": "too large"})
            continue
        results.add(case.record, _made_up(case))
    write_report(results, tmp_path)
    text = (tmp_path / "tile_memory_profile.md").read_text()
    assert "| base | A16 | 224² to 4096² (8) | 0.00% | 224² to 4096² (8) | 1.000 |" in text
    assert "| OpenVINO bf16 / hypervl A16 tiled | base | 2.05 | 3.36 | 5.19 | *3456²* (extrapolated) |" in text
    assert "(extrapolated; skipped)" in text


def _made_up(case: Case) -> dict[str, object]:
    """Latency n when tiled, n * (1 + (side / 1000)^2) when not."""
    ms = case.image**2 * (1.0 if case.tile else 1 + (case.image / 1000) ** 2)
    return {
        "status": "ok", "noisy": False, "others": [0.0], "latency_ms": ms, "tiles": 1, "activation_bytes": 1e7, "growth_bytes": 1e7,
        "peak_rss_bytes": 1e8, "image_bytes": 3 * case.image**2, "output_bytes": 1e6, "when": "2026-01-01T00:00Z", "commit": "abc",
    }  # fmt: skip


def test_noisy_times_do_not_count_where_enough_others_do() -> None:
    results = {image: {"noisy": image > 512} for image in (256, 320, 512, 1024)}
    assert list(without_noisy(results)) == [256, 320, 512]
    results[512]["noisy"] = True
    assert without_noisy(results) is results


def test_tools_import_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "openvino", "nncf", "matplotlib"}
    source = Path(tile_memory_profile.__file__).parent
    for file in source.glob("*.py"):
        top = [line.split()[1].split(".")[0] for line in file.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert not heavy & set(top), file.name
    assert sys.modules["tools.experiments.fit"]

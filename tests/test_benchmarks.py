"""The benchmark suites run, say what share of which limit they reach, and their comparison finds what became slower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.compare_benchmarks import NotComparableError, compare, main, read

ROOT = Path(__file__).parent.parent


def written(path: Path, costs: dict[str, tuple[float, float]], *, brand: str = "A", limit: str = "int8", threads: int = 2) -> Path:
    """A file with {name: (seconds, rate of the limit)}."""
    benchmarks = [
        {"fullname": name, "stats": {"min": s}, "extra_info": {"limit": limit, "threads": threads, "limit_rate": rate}}
        for name, (s, rate) in costs.items()
    ]
    machine = {"cpu": {"brand_raw": brand, "count": 2}, "hypervl_engine": {"isa": "avx2"}}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": benchmarks}))
    return path


def test_a_slower_machine_is_no_regression(tmp_path: Path) -> None:
    before = written(tmp_path / "a", {"x": (1.0, 900.0), "y": (2.0, 900.0)})
    after = written(tmp_path / "b", {"x": (1.5, 600.0), "y": (3.0, 600.0)})
    found = compare(read(before), read(after))
    assert found.ratios == {"x": pytest.approx(1.0), "y": pytest.approx(1.0)}
    assert main([str(before), str(after)]) == 0


def test_a_slower_benchmark_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(tmp_path / "a", {"x": (1.0, 900.0), "y": (2.0, 900.0)})
    # Less time than before, and yet slower: the machine became twice as fast.
    after = written(tmp_path / "b", {"x": (0.9, 1800.0), "y": (1.0, 1800.0)})
    assert compare(read(before), read(after)).slower(1.1) == ["x"]
    assert main([str(before), str(after)]) == 1
    assert "1.800 SLOWER x" in capsys.readouterr().out
    assert main([str(before), str(after), "--limit", "1.9"]) == 0
    assert main([str(after), str(before)]) == 0  # faster is not reported as slower


def test_what_came_and_went_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written(tmp_path / "a", {"x": (1.0, 1.0), "old": (1.0, 1.0)})
    after = written(tmp_path / "b", {"x": (1.0, 1.0), "added": (1.0, 1.0)})
    assert main([str(before), str(after)]) == 0
    out = capsys.readouterr().out
    assert "gone: old" in out
    assert "new: added" in out


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"brand": "B"}, "measured on A"),
        ({"limit": "read"}, "in common"),
        ({"threads": 1}, "in common"),
    ],
)
def test_what_does_not_compare(tmp_path: Path, other: dict[str, Any], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = written(tmp_path / "a", {"x": (1.0, 1.0)}), written(tmp_path / "b", {"x": (1.0, 1.0)}, **other)
    with pytest.raises(NotComparableError, match=problem):
        compare(read(before), read(after))
    assert main([str(before), str(after)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"machine_info": {"cpu": {}}, "benchmarks": [{"extra_info": {}}]}'])
def test_files_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(NotComparableError, match="x"):
        read(path)
    with pytest.raises(NotComparableError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_suites_run_and_know_their_limits(tiny: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    quick = ["--benchmark-enable", "--benchmark-max-time=0.01", "--benchmark-min-rounds=1", "--benchmark-calibration-precision=1"]
    workloads = ("tile", "prefill", "decode", "image", "end_to_end")
    suites = [ROOT / "tests" / "benchmarks" / f"bench_{workload}.py" for workload in workloads]
    command = [sys.executable, "-m", "pytest", "-q", *suites, *quick, f"--benchmark-json={result}", f"--benchmark-checkpoint={tiny}"]
    done = subprocess.run([*command, "-k", "not 2000 and not 1024"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "share of the machine's limits" in done.stdout
    run = read(result)
    for workload in workloads:
        assert any(f"bench_{workload}.py" in name for name in run.costs)
    shares = [entry["extra_info"]["share"] for entry in json.loads(result.read_text())["benchmarks"] if "share" in entry["extra_info"]]
    assert len(shares) > 8
    assert all(0 < share < 3 for share in shares)  # a model this small decodes out of the caches
    assert compare(run, run).mean() == pytest.approx(1.0)

"""The microbenchmark, the fit of rates to its times, and the file the figures are kept in."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
from hypervl_engine import _core
from hypervl_engine.cli import main
from hypervl_engine.hardware import FIGURES, calibration_path, cpu_spec, default_cpu_spec
from hypervl_engine.hardware.calibrate import calibrate, calibrated_spec, fit_rates, save_calibration
from hypothesis import given, settings
from hypothesis import strategies as st

# One small shape of every kind.
KINDS = {
    "linear": {"rows": 3, "outputs": 40, "inputs": 64, "weight_bits": 4, "activation_bits": 16, "group_size": 32, "copies": 2},
    "quantize": {"rows": 3, "cols": 100, "activation_bits": 8},
    "quantize_i16": {"rows": 3, "cols": 100},
    "norm": {"rows": 3, "cols": 33, "layer_norm": 1, "cold": 1},
    "activation": {"rows": 3, "cols": 33, "function": 4},
    "silu_mul": {"rows": 3, "cols": 33},
    "rope": {"rows": 3, "heads": 2, "head_dim": 8},
    "kv_store": {"rows": 3, "kv_heads": 2, "head_dim": 8, "bits": 16},
    "attention": {"rows": 3, "heads": 4, "kv_heads": 2, "head_dim": 8, "keys": 300, "causal": 1, "bits": 8, "activation_bits": 16},
    "embed": {"rows": 3, "cols": 128},
    "pixel_shuffle": {"side": 4, "cols": 5},
    "patchify": {"side": 2, "patch": 4},
    "vrc_stem": {"side": 9, "channels": 16},
    "vrc_depthwise": {"side": 9, "channels": 16, "stride": 2},
    "vrc_pointwise": {"pixels": 9, "inputs": 16, "channels": 16},
    "read": {"bytes": 1 << 16},
    "copy": {"bytes": 1 << 16, "block": 100},
    "launch": {},
    "cycle": {},
}  # fmt: skip
# What calibration leaves as it is assumed.
NOT_MEASURED = {"fast_bytes", "reserved_bytes", "vector_bytes", "token_tile_a16", "token_tile_a8"}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_time(kind: str, threads: int) -> None:
    seconds = _core.time_kernel(kind, threads, runs=2, run_seconds=0.0, **KINDS[kind])
    assert 0 < seconds < 10


def test_larger_takes_longer() -> None:
    def seconds(rows: int) -> float:
        return _core.time_kernel("linear", 1, runs=3, rows=rows, outputs=256, inputs=256, weight_bits=8, activation_bits=8)

    assert seconds(512) > 4 * seconds(8)


def test_time_is_that_of_one_of_the_copies() -> None:
    numbers = {"rows": 16, "outputs": 256, "inputs": 256, "weight_bits": 4, "activation_bits": 16}
    one = _core.time_kernel("linear", 1, runs=5, **numbers)
    many = _core.time_kernel("linear", 1, runs=5, copies=16, **numbers)
    assert many < 6 * one


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k]])
def test_missing_number_is_named(kind: str) -> None:
    for name in KINDS[kind]:
        if name in ("group_size", "copies", "function", "kv_heads", "cold") or (kind, name) == ("attention", "activation_bits"):
            continue  # these have defaults
        with pytest.raises(ValueError, match=f"{kind}.*{name} is missing"):
            _core.time_kernel(kind, 1, runs=1, **{k: v for k, v in KINDS[kind].items() if k != name})


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_number_is_named(kind: str) -> None:
    with pytest.raises(ValueError, match="'colour' is not one of its numbers"):
        _core.time_kernel(kind, 1, runs=1, run_seconds=0.0, colour=1, **KINDS[kind])


@pytest.mark.parametrize("value", [0, -1, 1 << 40, 10**30])
@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k]])
def test_numbers_out_of_range_are_errors(kind: str, value: int) -> None:
    zero_is_fine = {"causal", "layer_norm", "function", "cold"}
    for name in KINDS[kind]:
        if value == 0 and name in zero_is_fine:
            continue
        with pytest.raises(ValueError, match=name):
            _core.time_kernel(kind, 1, runs=1, run_seconds=0.0, **{**KINDS[kind], name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "sort", "threads": 1}, "no kind 'sort'"),
        ({"kind": "launch", "threads": 0}, "threads is 0"),
        ({"kind": "launch", "threads": 5000}, "threads is 5000"),
        ({"kind": "launch", "threads": 1, "runs": 0}, "runs is 0"),
        ({"kind": "launch", "threads": 1, "run_seconds": math.nan}, "run_seconds is nan"),
        ({"kind": "launch", "threads": 1, "run_seconds": -1.0}, "run_seconds is -1"),
        ({"kind": "read", "threads": 1, "bytes": 1.5}, "bytes is 1.5: expected a whole number"),
        ({"kind": "copy", "threads": 1, "bytes": 1 << 16, "block": 1 << 20}, "at most bytes"),
        ({"kind": "attention", "threads": 1, **KINDS["attention"], "kv_heads": 3}, "multiple of kv_heads"),
    ],
)
def test_other_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.time_kernel(**arguments)


def test_operands_beyond_memory_are_refused() -> None:
    with pytest.raises(MemoryError, match="operands"):
        _core.time_kernel("norm", 1, rows=1 << 20, cols=1 << 20, layer_norm=0)


rates = st.floats(0.1, 100.0)


@settings(deadline=None)
@given(macs=rates, unpack=rates, scales=rates)
def test_fit_finds_the_rates_that_made_the_times(macs: float, unpack: float, scales: float) -> None:
    amounts = [
        {"macs": 1e6 * rows, "unpack": 1e6 * (1 + rows // 6), "scales": 1e6 * rows / group} for rows in (1, 6, 50) for group in (32, 128)
    ]
    cycles = [a["macs"] / macs + a["unpack"] / unpack + a["scales"] / scales for a in amounts]
    assert fit_rates(amounts, cycles) == pytest.approx({"macs": macs, "unpack": unpack, "scales": scales}, rel=1e-4)


def test_fit_gives_no_negative_cost() -> None:
    # The second amount seems to save time: it costs nothing then.
    found = fit_rates([{"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 1.0}], [1.0, 0.8])
    assert found["b"] >= 1e3
    assert found["a"] == pytest.approx(1.0, rel=0.3)


@pytest.fixture(scope="module")
def quick_figures() -> dict[str, float]:
    return calibrate(2, quick=True, progress=False)


def test_figures_are_complete_and_positive(quick_figures: dict[str, float]) -> None:
    assert set(quick_figures) == set(FIGURES) - NOT_MEASURED
    for name, value in quick_figures.items():
        assert math.isfinite(value), name
        assert value > 0 or name == "cache_bytes", name
    assert quick_figures["contexts"] == 2
    assert 1e8 < quick_figures["clock_hz"] < 1e10


@pytest.mark.parametrize("threads", [0, -1, 2000, 1.5, True])
def test_calibrate_refuses_bad_threads(threads: object) -> None:
    with pytest.raises(ValueError, match="threads"):
        calibrate(threads)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path, quick_figures: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("hypervl_engine.hardware.calibrate.calibrate", lambda *_, **__: quick_figures)
    return save_calibration(calibrated_spec(2, progress=False), cache_dir=tmp_path / "new folder")


def test_file_is_used_from_then_on(saved: Path, quick_figures: dict[str, float]) -> None:
    assert saved == calibration_path(2, saved.parent)
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
    for staged in (False, True):
        spec = cpu_spec(2, staged, cache_dir=saved.parent)
        assert {name: spec.figures[name].value for name in quick_figures} == quick_figures
        assert {name for name, figure in spec.figures.items() if figure.status == "measured"} == set(quick_figures)
        assert spec.name == ("cpu-staged" if staged else "cpu")
    assert "2 threads" in spec.figures["norm"].source
    assert str(_core.cpu_info()["isa"]) in spec.figures["norm"].source
    # Of another number of threads nothing is known.
    assert cpu_spec(1, cache_dir=saved.parent) == default_cpu_spec(1)


@pytest.mark.parametrize("damage", ["cut", "rate", "threads", "missing", "binary"])
def test_damaged_file_is_passed_over(saved: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    values = json.loads(saved.read_text())
    if damage == "cut":
        saved.write_text(saved.read_text()[:200])
    elif damage == "binary":
        saved.write_bytes(bytes(range(256)))
    else:
        if damage == "rate":
            values["figures"]["norm"]["value"] = -1
        elif damage == "threads":
            values["figures"]["contexts"]["value"] = 7
        else:
            del values["figures"]["clock_hz"]
        saved.write_text(json.dumps(values))
    with caplog.at_level(logging.WARNING, "hypervl_engine"):
        assert cpu_spec(2, cache_dir=saved.parent) == default_cpu_spec(2)
    assert saved.name in caplog.text


def test_command(
    tmp_path: Path, quick_figures: dict[str, float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hypervl_engine.hardware.calibrate.calibrate", lambda *_, **__: quick_figures)
    assert main(["calibrate", "--threads", "2", "--cache-dir", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["figures"]["norm"]["value"] == quick_figures["norm"]
    assert cpu_spec(2, cache_dir=tmp_path).to_dict() == written
    assert main(["calibrate", "--threads", "2", "--cache-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "launch_s" in out
    assert str(calibration_path(2, tmp_path)) in out
    assert main(["calibrate", "--threads", "0"]) == 2

"""Hardware specs: presets, JSON in and out, and every way a file can be wrong."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypervl_engine import _core
from hypervl_engine.hardware import (
    FIGURES,
    PRESETS,
    TARGETS,
    Figure,
    HardwareSpec,
    calibration_path,
    cpu_spec,
    default_cpu_spec,
    load_spec,
    preset,
)
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def content() -> dict[str, Any]:
    return preset("hexagon-v73").to_dict()


def write(folder: Path, content: object) -> Path:
    path = folder / "spec.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_presets() -> None:
    assert [name.removeprefix("hexagon-v") for name in PRESETS] == ["68", "69", "73", "75", "79", "81"]
    for name in PRESETS:
        spec = preset(name)
        assert spec.name == name
        assert spec.staged
        assert tuple(spec.figures) == FIGURES == tuple(_core.SPEC_FIGURES)
        # Nothing was measured on a device, so nothing may say so.
        assert {figure.status for figure in spec.figures.values()} <= {"published", "assumed", "emulated"}
        assert spec.budget == spec.figures["fast_bytes"].value - (1 << 20)
    assert preset("hexagon-v68").figures["fast_bytes"].value == 4 << 20
    assert preset("hexagon-v73").figures["vector_bytes"].value == 128
    assert preset("hexagon-v75").figures["ddr_bytes_per_s"].status == "published"
    assert preset("hexagon-v73").figures["transfer_bytes_per_s"].status == "assumed"


def test_preset_unknown() -> None:
    with pytest.raises(ValueError, match=r"hexagon-v99.*hexagon-v68"):
        preset("hexagon-v99")


def test_load_spec(tmp_path: Path, content: dict[str, Any]) -> None:
    spec = load_spec("hexagon-v73")
    assert load_spec(spec) is spec
    assert load_spec(write(tmp_path, content)) == spec
    assert load_spec("cpu", threads=3, cache_dir=tmp_path) == cpu_spec(3, cache_dir=tmp_path)
    assert load_spec("cpu-staged", threads=3, cache_dir=tmp_path).staged
    with pytest.raises(ValueError, match=r"hexagon-v73, .*path of a JSON file"):
        load_spec("hexagon")
    assert {"cpu", "cpu-staged"} < set(TARGETS)


def test_round_trip(tmp_path: Path) -> None:
    for name in TARGETS:
        spec = load_spec(name, threads=2, cache_dir=tmp_path)
        spec.save(tmp_path / "copy.json")
        again = HardwareSpec.load(tmp_path / "copy.json")
        assert again == spec
        assert hash(again) == hash(spec)
        assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec
    other = spec.with_figures({"launch_s": Figure(0.0, "test", "assumed")})
    assert other != spec
    assert other.figures["launch_s"].value == 0


@settings(max_examples=50, deadline=None)
@given(
    figure=st.sampled_from([n for n in FIGURES if n not in ("reserved_bytes", "fast_bytes", "contexts", "vector_bytes")]),
    value=st.integers(1, 10**12) | st.floats(1e-9, 1e12),
    status=st.sampled_from(["measured", "emulated", "published", "assumed"]),
    source=st.text(min_size=1).filter(str.strip),
)
def test_round_trip_of_any_figure(figure: str, value: float, status: Any, source: str) -> None:
    whole = float(round(value)) or 1.0 if figure.startswith("token_tile") else float(value)
    spec = preset("hexagon-v73").with_figures({figure: Figure(whole, source, status)})
    assert HardwareSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.values()[figure] == whole


def edit(path: tuple[str, ...], value: object) -> Any:
    def apply(content: dict[str, Any]) -> None:
        at = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return apply


def drop(path: tuple[str, ...]) -> Any:
    def apply(content: dict[str, Any]) -> None:
        at = content
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return apply


CLOCK = ("figures", "clock_hz")
BAD = {
    "figure missing": (drop(CLOCK), "clock_hz"),
    "figure unknown": (edit(("figures", "clock_mhz"), {"value": 1, "status": "assumed", "source": "x"}), "clock_mhz"),
    "figure not an object": (edit(CLOCK, 1e9), "clock_hz"),
    "value missing": (drop((*CLOCK, "value")), "clock_hz"),
    "value text": (edit((*CLOCK, "value"), "1e9"), "clock_hz"),
    "value null": (edit((*CLOCK, "value"), None), "clock_hz"),
    "value true": (edit((*CLOCK, "value"), True), "clock_hz"),
    "value list": (edit((*CLOCK, "value"), [1]), "clock_hz"),
    "value NaN": (edit((*CLOCK, "value"), float("nan")), "clock_hz"),
    "value infinite": (edit((*CLOCK, "value"), float("inf")), "clock_hz"),
    "value huge": (edit((*CLOCK, "value"), 10**400), "clock_hz"),
    "value zero": (edit((*CLOCK, "value"), 0), "clock_hz"),
    "value negative": (edit((*CLOCK, "value"), -1.5), "clock_hz"),
    "latency negative": (edit(("figures", "transfer_latency_s", "value"), -1e-9), "transfer_latency_s"),
    "contexts broken": (edit(("figures", "contexts", "value"), 1.5), "contexts"),
    "all reserved": (edit(("figures", "reserved_bytes", "value"), 8 << 20), "reserved_bytes"),
    "fast memory absurd": (edit(("figures", "fast_bytes", "value"), 1 << 60), "fast_bytes"),
    "status unknown": (edit((*CLOCK, "status"), "guessed"), "clock_hz: status"),
    "status a list": (edit((*CLOCK, "status"), []), "clock_hz: status"),
    "status missing": (drop((*CLOCK, "status")), "clock_hz: status"),
    "source missing": (drop((*CLOCK, "source")), "clock_hz: source"),
    "source empty": (edit((*CLOCK, "source"), " "), "clock_hz: source"),
    "source a number": (edit((*CLOCK, "source"), 7), "clock_hz: source"),
    "key unknown": (edit((*CLOCK, "unit"), "Hz"), "clock_hz.*unit"),
    "name missing": (drop(("name",)), "name"),
    "name empty": (edit(("name",), ""), "name"),
    "name not text": (edit(("name",), "\ud800"), "name"),
    "name a number": (edit(("name",), 3), "name"),
    "staged text": (edit(("staged",), "yes"), "staged"),
    "staged a number": (edit(("staged",), 1), "staged"),
    "figures a list": (edit(("figures",), []), "figures"),
    "top key unknown": (edit(("note",), "hi"), "note"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case: str, tmp_path: Path, content: dict[str, Any]) -> None:
    change, message = BAD[case]
    change(content)
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        HardwareSpec.load(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00\x01", '"hexagon"', "[" * 100_000])
def test_not_a_spec(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"spec\.json"):
        HardwareSpec.load(write(tmp_path, text))


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match=r"spec\.json"):
        HardwareSpec.load(tmp_path / "spec.json")


def test_key_twice(tmp_path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content)
    twice = text.replace('"figures": {', '"figures": {"clock_hz": {"value": 1, "status": "assumed", "source": "x"}, ', 1)
    with pytest.raises(ValueError, match=r"spec.json: clock_hz: expected once"):
        HardwareSpec.load(write(tmp_path, twice))


def test_file_too_big(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="larger"):
        HardwareSpec.load(write(tmp_path, json.dumps(content) + " " * (1 << 20)))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HardwareSpec.load(tmp_path / "none.json")


def test_made_by_hand() -> None:
    spec = preset("hexagon-v73")
    with pytest.raises(ValueError, match=r"spec 'mine': clock_hz"):
        HardwareSpec("mine", True, {n: f for n, f in spec.figures.items() if n != "clock_hz"})
    with pytest.raises(ValueError, match="no_such_figure"):
        spec.with_figures({"no_such_figure": Figure(1.0, "x", "assumed")})
    with pytest.raises(TypeError):
        spec.figures["clock_hz"] = Figure(1.0, "x", "assumed")  # type: ignore[index]


def test_core_check_spec() -> None:
    values = preset("hexagon-v73").values()
    _core.check_spec(values)
    for change in ({"clock_hz": -1.0}, {"clock_hz": float("nan")}, {"clock_hz": "fast"}, {"staged": "yes"}, {"name": 3}):
        with pytest.raises(ValueError, match=next(iter(change))):
            _core.check_spec({**values, **change})
    del values["clock_hz"]
    with pytest.raises(ValueError, match="clock_hz"):
        _core.check_spec(values)


def test_cpu_spec(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = cpu_spec(2, cache_dir=tmp_path)
    assert spec == default_cpu_spec(2)
    assert {figure.status for figure in spec.figures.values()} == {"assumed"}
    assert spec.budget == 8 << 20
    staged = cpu_spec(2, staged=True, cache_dir=tmp_path)
    assert (staged.name, staged.staged, dict(staged.figures)) == ("cpu-staged", True, dict(spec.figures))
    for threads in (0, 1025, 1.5, True, "2"):
        with pytest.raises(ValueError, match="threads"):
            cpu_spec(threads, cache_dir=tmp_path)  # type: ignore[arg-type]

    # A calibration is used for its number of threads, and only when it can be.
    path = calibration_path(2, tmp_path)
    spec.with_figures({"clock_hz": Figure(3.7e9, "timed", "measured")}).save(path)
    assert cpu_spec(2, cache_dir=tmp_path).figures["clock_hz"] == Figure(3.7e9, "timed", "measured")
    assert cpu_spec(1, cache_dir=tmp_path) == default_cpu_spec(1)
    assert not caplog.records
    path.write_text(path.read_text().replace('"clock_hz"', '"clock"'))
    assert cpu_spec(2, cache_dir=tmp_path) == spec
    assert "calibration not used" in caplog.text
    default_cpu_spec(3).save(path)
    assert cpu_spec(2, cache_dir=tmp_path) == spec
    path.unlink()
    path.mkdir()
    assert cpu_spec(2, cache_dir=tmp_path) == spec

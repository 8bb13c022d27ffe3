"""Where a model runs: the arguments of `load` that choose device, budget, machine, plan and tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypervl_engine import _core
from hypervl_engine.engine import Engine, load
from hypervl_engine.errors import CheckpointError, DeviceError
from hypervl_engine.hardware import Figure, cpu_spec, preset
from hypervl_engine.placement import TILE_SIDES

CONTEXT = 512


def opened(folder: Path, **options: Any) -> Engine:
    return load(folder, **{"threads": 1, "context_length": CONTEXT, "progress": False, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu': expected cpu, cpu-staged, hexagon-ref, hexagon-sim or hexagon"),
        ({"device": "hexagon-ref", "kv_bits": 16}, "kv_bits is 16: device hexagon-ref has KV caches of 8 bits only"),
        ({"fallback": "cpu"}, "fallback is 'cpu': expected cpu or hexagon-ref, for a device among hexagon-sim and hexagon"),
        ({"device": "hexagon", "fallback": "gpu"}, "fallback is 'gpu'"),
        ({"vtcm": "8 parsecs"}, "vtcm"),
        ({"vtcm": -5}, "vtcm"),
        ({"vtcm": True}, "vtcm"),
        ({"spec": "hexagon-v66"}, "hexagon-v66"),
        ({"spec": "cpu", "plan": "plan.json"}, "a plan brings its spec and its budget"),
        ({"tile_size": 65}, "tile_size is 65: expected auto or a multiple of 32 from 32 to 8192"),
        ({"tile_size": 0}, "tile_size is 0"),
        ({"tile_size": True}, "tile_size is True"),
        ({"tile_size": "large"}, "tile_size is 'large'"),
    ],
)
def test_arguments_that_make_no_sense(tiny: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(tiny, **options)


def test_device_and_spec_are_what_was_asked_for(tiny: Path, tmp_path: Path) -> None:
    assert opened(tiny).spec == cpu_spec(1)
    assert opened(tiny, device="cpu-staged").spec == cpu_spec(1, staged=True)
    hexagon = opened(tiny, spec="hexagon-v75", vtcm="2MiB")
    assert (hexagon.spec.name, hexagon.spec.staged, hexagon.budget) == ("hexagon-v75", True, 2 << 20)
    assert hexagon.info()["device"] == "hexagon-v75"
    in_place = opened(tiny, spec="hexagon-v75", device="cpu")
    assert (in_place.spec.name, in_place.spec.staged) == ("cpu", False)
    assert in_place.budget == preset("hexagon-v75").budget
    mine = cpu_spec(1).with_figures({"fast_bytes": Figure(3 << 20, "this test", "assumed")}, name="mine")
    mine.save(tmp_path / "mine.json")
    assert opened(tiny, spec=tmp_path / "mine.json").budget == 3 << 20


@pytest.mark.parametrize("size", [(0, 32), (-32, 32), (32, 1 << 20), (33, 32)])
def test_tiles_that_the_model_does_not_have(tiny: Path, size: tuple[int, int]) -> None:
    engine = opened(tiny)
    with pytest.raises(ValueError, match=f"a tile of {size[0]} x {size[1]} pixels: expected multiples of"):
        _core.model_programs(engine.model, engine.default_branch, [size], 512)


def test_a_machine_without_the_npu(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVL_CDSPRPC", str(tmp_path / "libcdsprpc.so"))
    monkeypatch.setenv("HVL_HEXAGON", str(tmp_path))
    with pytest.raises(DeviceError, match="no FastRPC on this machine"):
        opened(tiny, device="hexagon")
    with pytest.warns(RuntimeWarning, match="cpu is used instead of device hexagon: no FastRPC") as warned:
        instead = opened(tiny, device="hexagon", fallback="cpu")
    assert (instead.info()["device"], instead.kv_bits) == ("cpu", 16)
    assert [Path(one.filename) for one in warned] == [Path(__file__)]
    with pytest.warns(RuntimeWarning, match="hexagon-ref is used instead of device hexagon-sim: no .*qemu-hexagon"):
        assert opened(tiny, device="hexagon-sim", fallback="hexagon-ref").info()["device"] == "hexagon-ref"
    monkeypatch.setenv("HVL_HEXAGON_ARCH", "v75")
    with pytest.raises(ValueError, match="HVL_HEXAGON_ARCH is 'v75': expected a number"):
        opened(tiny, device="hexagon")


def test_the_integer_device_runs_as_its_spec_says(tiny: Path, tmp_path: Path, picture: np.ndarray) -> None:
    in_place = opened(tiny, device="hexagon-ref")
    assert (in_place.spec.name, in_place.spec.staged, in_place.kv_bits) == ("hexagon-ref", False, 8)
    assert in_place.info()["arithmetic"] == "integer"
    assert opened(tiny).info()["arithmetic"] == "float"
    staged = opened(tiny, device="hexagon-ref", spec="hexagon-v73", vtcm="300KiB")
    assert (staged.spec.name, staged.spec.staged) == ("hexagon-ref", True)
    np.testing.assert_array_equal(staged.encode(picture, scale=1.0), in_place.encode(picture, scale=1.0))
    assert staged.stats["device"] == "hexagon-ref"
    assert staged.stats["transferred_in_bytes"] > 0
    path = tmp_path / "plan.json"
    staged.plan((picture.shape[1], picture.shape[0])).save(path)
    again = opened(tiny, device="hexagon-ref", plan=path)
    assert (again.spec, again.budget) == (staged.spec, staged.budget)
    with pytest.raises(ValueError, match="made for device hexagon-ref, not for cpu"):
        opened(tiny, plan=path)


def test_a_saved_plan_runs_again(tiny: Path, tmp_path: Path, picture: np.ndarray) -> None:
    small = opened(tiny, device="cpu-staged", vtcm="300KiB")
    path = tmp_path / "plan.json"
    small.plan((picture.shape[1], picture.shape[0])).save(path)
    again = opened(tiny, plan=path)
    assert again.budget == small.budget
    assert again.plan((picture.shape[1], picture.shape[0])) == small.plan((picture.shape[1], picture.shape[0]))
    np.testing.assert_array_equal(again.encode(picture, scale=1.0), small.encode(picture, scale=1.0))
    with pytest.raises(ValueError, match="made for device cpu-staged, not for cpu"):
        opened(tiny, plan=path, device="cpu")
    with pytest.raises(ValueError, match="made for 1 threads, not for 2"):
        opened(tiny, plan=path, threads=2)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        load(plan=path, threads=1, context_length=CONTEXT, progress=False)
    with pytest.raises(FileNotFoundError):
        opened(tiny, plan=tmp_path / "nothing.json")


def test_tiles_of_another_side(tiny: Path, picture: np.ndarray) -> None:
    own, larger = opened(tiny), opened(tiny, tile_size=128)
    assert own.config.tiling.tile_size == 64
    assert larger.config.tiling.tile_size == larger.info()["tile_size"] == 128
    height, width = picture.shape[:2]
    counts = [engine.model.plan_image(height, width, 1.0)["tiles"] for engine in (own, larger)]
    assert counts == [-(-height // 64) * -(-width // 64), -(-height // 128) * -(-width // 128)]
    shapes = [engine.encode(picture, scale=1.0).shape for engine in (own, larger)]
    assert shapes[0] == shapes[1]  # as many embeddings, of more context each


def test_the_scheduler_chooses_the_side_of_least_time(tiny: Path) -> None:
    chosen = opened(tiny, tile_size="auto").config.tiling.tile_size
    assert chosen in TILE_SIDES
    engine = opened(tiny)
    spec = engine.spec.values()

    def ms_per_pixel(side: int) -> float:
        stages = _core.model_programs(engine.model, engine.default_branch, [(side, side)], CONTEXT)
        reports = [_core.describe_plan(program, plan, spec) for name, program, plan in stages if name.startswith(("tile", "projector"))]
        return sum(float(report["predicted_ms"]) for report in reports) / side**2

    sides = [side for side in TILE_SIDES if side % 32 == 0]
    assert ms_per_pixel(chosen) == min(ms_per_pixel(side) for side in sides)


def test_engine_stats_are_those_of_the_last_call(tiny: Path, picture: np.ndarray) -> None:
    engine = opened(tiny, device="cpu-staged", vtcm="300KiB")
    assert engine.stats == {"device": "cpu-staged", "fast_budget_bytes": 300 << 10, "weight_bytes": engine.model.weight_bytes}
    engine.encode(picture, scale=1.0)
    stats = engine.stats
    assert 0 < stats["fast_peak_bytes"] == stats["fast_planned_bytes"] <= 300 << 10
    assert stats["transferred_in_bytes"] > stats["transferred_out_bytes"] > 0
    assert stats["kv_cache_bytes"] > 0
    assert opened(tiny).stats["fast_budget_bytes"] == cpu_spec(1).budget

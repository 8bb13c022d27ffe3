"""The machine's limits, and what benchmarks make of them."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from hypervl_engine import _core
from hypervl_engine.convert import packing
from hypervl_engine.convert.random_model import preset_config
from hypervl_engine.roofline import CLOCK, READ, Beside, Limits, roofline, table, thread_counts
from hypervl_engine.work import decode_bytes, prefill_operations, tile_operations


@pytest.fixture(scope="module")
def limits() -> Limits:
    return Limits(1)


def test_rates_are_plausible(limits: Limits) -> None:
    clock = max(limits.sample(CLOCK, runs=3))
    assert 2e8 < clock < 1e10
    bytes_a_cycle = max(limits.sample(READ, runs=1)) / clock
    assert 0.05 < bytes_a_cycle < 128
    for kind in limits.kinds:
        if kind not in (READ, CLOCK):
            # At least half an instruction of 128 bits a cycle, at most four of 512, or the 2048 of tiles of 8 bits (clocks of a busy
            # machine move between two samples).
            most = 2500 if "amx" in _core.cpu_info()["isa"] else 600
            assert 4 < max(limits.sample(kind, runs=3)) / clock < most, kind


def test_narrower_numbers_multiply_faster(limits: Limits) -> None:
    if not limits.kinds.get("int8", "").startswith(("vp", "tdp")):
        pytest.skip("only x86 instruction sets double their rate so")
    rates = {kind: max(limits.sample(kind, runs=5)) for kind in ("f32", "int16", "int8")}
    assert rates["int8"] > 1.4 * rates["int16"]
    assert rates["int16"] > 1.2 * rates["f32"]


def test_samples_take_as_long_as_asked(limits: Limits) -> None:
    start = time.perf_counter()
    limits.sample(CLOCK, runs=1, seconds=0.3)
    assert time.perf_counter() - start > 0.15


def test_bad_arguments(limits: Limits) -> None:
    for threads in (0, -1, 1025):
        with pytest.raises(ValueError, match="expected 1 to 1024"):
            Limits(threads)
    with pytest.raises(ValueError, match="this machine has read, "):
        limits.sample("fp4")
    for seconds in (0, -1, 11, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            _core.Roofline(1).rate(CLOCK, seconds)
    with pytest.raises(ValueError, match="at least one"):
        roofline([])
    with pytest.raises(ValueError, match="at least one"):
        roofline([1], runs=0)


def test_callers_in_several_threads_wait_for_each_other() -> None:
    shared, rates = _core.Roofline(2), []
    callers = [threading.Thread(target=lambda: rates.extend(shared.rate(CLOCK, 0.005) for _ in range(5))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(rates) == 20
    assert min(rates) > 0


def test_share_is_the_median_of_rounds() -> None:
    # A machine that halves its speed in the second round, and a disturbed third one.
    measured = Beside("int8", (1.0, 2.0, 5.0), (100.0, 50.0, 100.0))
    assert measured.share(80.0) == pytest.approx(0.8)
    assert measured.median_seconds == 2.0
    assert measured.median_rate == 100.0


def test_limits_are_sampled_round_the_work(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    rates = iter((10.0, 20.0, 40.0))
    monkeypatch.setattr(limits, "sample", lambda kind: order.append(kind) or [next(rates)])
    measured = limits.beside(READ, lambda: order.append("work") or 0.5, rounds=2)
    assert order == [READ, "work", READ, "work", READ]
    assert measured.rates == (15.0, 30.0)


def test_thread_counts() -> None:
    assert [thread_counts(n) for n in (0, 1, 3, 12)] == [[], [1], [1, 2, 3], [1, 2, 4, 8, 12]]


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    report = roofline([1, 2], runs=2)
    for limit in report["limits"].values():
        for rate in limit["rates"].values():
            assert 0 < rate["least"] <= rate["median"] <= rate["most"]
    assert len(table(report).splitlines()) == 1 + len(report["limits"])


def test_work_of_the_published_shape() -> None:
    config = preset_config("hypervl-1.8b", None)
    config = dataclasses.replace(config, quantization_config=packing.plan(config, 128))
    assert decode_bytes(config) / 1e6 == pytest.approx(887, rel=0.01)
    # 2.82 GOP a token of the linears; attention of 512 tokens and one head come on top.
    linears = 2.82e9 * 512
    attention = 4 * 28 * 16 * 128 * 512 * 513 / 2
    assert prefill_operations(config, 512) == pytest.approx(linears + attention + 2 * 151936 * 2048, rel=0.002)
    # What peers.md counts for the towers, and the projector.
    assert tile_operations(config, "large", 256) / 1e9 == pytest.approx(161.5 + 2 * 64 * (4096 * 2048 + 2048**2) / 1e9, rel=0.01)
    assert tile_operations(config, "base", 576) / 1e9 == pytest.approx(111 + 2 * 144 * (3072 * 2048 + 2048**2) / 1e9, rel=0.01)

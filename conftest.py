"""What all benchmarks share: which model they run, and the share of the machine's limits that they reach (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Declare = Callable[..., None]
_LIMITS = pytest.StashKey[dict[tuple[int, str], Any]]()
_SHARES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--benchmark-checkpoint", metavar="FOLDER",
        help="what tests/benchmarks run (default: two layers of the published 1.8B shape with random weights, made in build/experiments)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LIMITS] = {}
    config.stash[_SHARES] = []


class _Limit:
    """A benchmark's limit, sampled before and after it."""

    def __init__(self, config: pytest.Config, benchmark: Any) -> None:
        self._config, self._benchmark = config, benchmark
        self._declared: tuple[Any, str, float | None] | None = None
        self._rates: list[float] = []

    def declare(self, kind: str, amount: float | None = None, *, threads: int = 1, variant: str = "") -> None:
        if self._benchmark.disabled:
            return
        from hypervl_engine.roofline import CLOCK, READ, Limits

        cached, key = self._config.stash[_LIMITS], (threads, "" if kind == READ else variant)
        if key not in cached:
            cached[key] = Limits(*key)
        limits = cached[key]
        if kind not in limits.kinds:  # forced to the plain C++ variant
            kind, amount = CLOCK, None
        self._declared = limits, kind, amount
        self._rates = limits.sample(kind)

    def finish(self) -> None:
        if self._benchmark.disabled or self._benchmark.stats is None:
            return
        if self._declared is None:
            self.declare("clock")
        assert self._declared is not None
        limits, kind, amount = self._declared
        rate = max([*self._rates, *limits.sample(kind)])
        info = self._benchmark.extra_info
        info |= {"limit": kind, "instructions": limits.kinds[kind], "threads": limits.threads, "limit_rate": rate}
        if amount is not None:
            info["share"] = amount / self._benchmark.stats.stats.median / rate
            line = f"{info['share']:7.1%} of {rate / 1e9:7.1f} G/s {kind} ({limits.threads} threads)  {self._benchmark.fullname}"
            self._config.stash[_SHARES].append(line)


@pytest.fixture(autouse=True)
def _benchmark_limit(request: pytest.FixtureRequest) -> Iterator[_Limit | None]:
    if "benchmark" not in request.fixturenames:
        yield None
        return
    limit = _Limit(request.config, request.getfixturevalue("benchmark"))
    yield limit
    limit.finish()


@pytest.fixture
def limit(_benchmark_limit: _Limit) -> Declare:
    """limit(kind, amount, threads=1, variant=""), before the benchmark runs: what bounds it, and how many bytes or operations a run takes.

    kind: a name of `hypervl_engine.roofline.Limits.kinds`; variant: the instruction set whose limit it is, if not the one in use. Without
    an amount the limit only serves to compare runs of the suite (tools/compare_benchmarks.py), as the clock does for benchmarks that
    declare nothing.
    """
    return _benchmark_limit.declare


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[_SHARES]:
        terminalreporter.section("share of the machine's limits, measured beside each benchmark (median time)")
        for line in config.stash[_SHARES]:
            terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    from hypervl_engine import _core

    machine_info["hypervl_engine"] = {"isa": _core.cpu_info()["isa"]}

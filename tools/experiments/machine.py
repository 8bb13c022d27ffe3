"""What a measurement needs to know of the machine: how busy others are, and what a process takes of its memory. Linux."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1 << 20
NOISY = 0.06  # of all processors, used by others during a sample
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float:
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system


class OthersWatch:
    """Share of the processors' time (0 to 1) that other processes took since it was made. Clock ticks make it uncertain by 10 ms."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def share(self) -> float:
        wall = time.perf_counter() - self._start
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own) - 0.02
        return max(0.0, others / (wall * (os.cpu_count() or 1)))


def wait_until_quiet(limit_s: float, threshold: float = NOISY) -> dict[str, float]:
    """Waits until others use less than `threshold` of the processors over two seconds, `limit_s` at most.

    Not the load average: its minute of memory would count our own last measurement. It is recorded beside.
    """
    start = time.monotonic()
    while True:
        watch = OthersWatch()
        time.sleep(2.0)
        share = watch.share()
        waited = time.monotonic() - start
        if share < threshold or waited > limit_s:
            return {"others_before": round(share, 3), "load_average": os.getloadavg()[0], "waited_s": round(waited, 1)}


def measure_runs(run: Callable[[], float | None], *, seconds: float = 5.0, most: int = 5) -> dict[str, Any]:
    """Memory and time of `run`, which returns milliseconds, or None where its wall time is meant.

    Memory is that of the first run: how far resident memory grew above what it was before (earlier allocations do not count), and the
    process's peak. Then up to `most` timed runs within `seconds`; a first run longer than that is itself the only sample (warming up does
    not matter there, and time does). The latency is the median of the samples during which others were quiet, or, where there is none, the
    least of all.
    """
    samples: list[float] = []
    others: list[float] = []

    def once() -> None:
        watch = OthersWatch()
        start = time.perf_counter()
        ms = run()
        samples.append((time.perf_counter() - start) * 1e3 if ms is None else ms)
        others.append(watch.share())

    begin = time.perf_counter()
    reset_peak_rss()
    before = rss_bytes()
    once()
    peak = peak_rss_bytes()
    if time.perf_counter() - begin <= seconds:
        samples.clear()
        others.clear()
        while len(samples) < most and (not samples or time.perf_counter() - begin < seconds):
            once()
    clean = [ms for ms, share in zip(samples, others, strict=True) if share < NOISY]
    return {
        "latency_ms": statistics.median(clean) if clean else min(samples),
        "noisy": not clean,
        "samples_ms": [round(ms, 2) for ms in samples],
        "others": [round(share, 3) for share in others],
        "growth_bytes": max(0, peak - before),
        "peak_rss_bytes": peak,
    }


def rss_bytes() -> int:
    """Resident memory of this process now."""
    return _status("VmRSS", os.getpid())


def peak_rss_bytes() -> int:
    """The most since `reset_peak_rss`, or since the process began."""
    return _status("VmHWM", os.getpid())


def reset_peak_rss() -> None:
    """OSError where the kernel does not allow it."""
    Path("/proc/self/clear_refs").write_text("5")


def process_rss_bytes(pid: int) -> int:
    """Resident memory of a process, 0 when it is gone."""
    try:
        return _status("VmRSS", pid)
    except (OSError, ValueError):
        return 0


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    return _field(Path("/proc/meminfo").read_text(), "MemAvailable")


def _status(name: str, pid: int) -> int:
    return _field(Path(f"/proc/{pid}/status").read_text(), name)


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {name}: expected the /proc of a running Linux process")

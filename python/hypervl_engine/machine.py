"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path


def usable_cores() -> int:
    """Physical cores this process may run on: its CPU affinity, hyper-threads counted once, capped by cgroup quotas."""
    return max(1, math.ceil(min(len(core_cpus()), cpu_quota())))


def core_cpus() -> list[int]:
    """One CPU of each physical core that this process may run on, in rising order."""
    try:
        cpus = sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cpus = list(range(os.cpu_count() or 1))
    first = {_core_of(cpu): cpu for cpu in reversed(cpus)}
    return sorted(first.values())


def cpu_quota() -> float:
    """CPUs' worth of time the cgroup (v2 or v1) grants; infinity without a limit."""
    quota = math.inf
    for folder in _cgroup_folders():
        try:
            limit, period = (folder / "cpu.max").read_text().split()
            if limit != "max":
                quota = min(quota, int(limit) / int(period))
        except (OSError, ValueError):
            pass
        try:
            limit, period = (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
            if int(limit) > 0:
                quota = min(quota, int(limit) / int(period))
        except (OSError, ValueError):
            pass
    return quota


def _core_of(cpu: int) -> str:
    """The same text for all hardware threads of one core."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    for name in ("core_cpus_list", "thread_siblings_list"):
        try:
            return (topology / name).read_text().strip()
        except OSError:
            continue
    return str(cpu)


def _cgroup_folders() -> list[Path]:
    """This process's cgroup folders with all above them, of the unified and of the cpu hierarchy."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        match = re.fullmatch(r"\d+:([^:]*):(/.*)", line)
        if not match or (match[1] and "cpu" not in match[1].split(",")):
            continue
        root = Path("/sys/fs/cgroup") / match[1] if match[1] else Path("/sys/fs/cgroup")
        inner = root / match[2].lstrip("/")
        folders += [inner, *(p for p in inner.parents if p == root or root in p.parents)]
    return folders

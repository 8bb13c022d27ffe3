"""The CPU this runs on: figures by its instruction set, or measured once by `hypervl_engine.hardware.calibrate`."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
from pathlib import Path

from .. import _core
from ..checkpoint import cache_folder
from .spec import Figure, HardwareSpec

DEFAULT_FAST_BYTES = 8 << 20
_log = logging.getLogger("hypervl_engine")

# Per clock cycle and thread, avx512vnni and avx2 as calibrated on one Zen 4 server, the plain reference as a guess.
_DEFAULT_RATES = {
    "macs_w4a16": (32, 20, 1),
    "macs_w4a8": (60, 40, 1),
    "macs_w8a16": (32, 16, 1),
    "macs_w8a8": (64, 17, 1),
    "scales": (4, 3.5, 0.25),
    "unpack_w4": (120, 33, 1),
    "unpack_w8": (70, 36, 1),
    "token_tile_a16": (6, 4, 1),
    "token_tile_a8": (8, 4, 1),
    "macs_attention_a16": (28, 17, 0.5),
    "macs_attention_a8": (47, 17, 0.5),
    "exps_attention": (0.5, 0.3, 0.1),
    "macs_vrc": (64, 21, 0.5),
    "macs_vrc_depthwise": (8, 6, 0.5),
    "requant_vrc": (1.5, 0.9, 0.25),
    "norm": (2, 2, 0.25),
    "quantize": (1.8, 1.4, 0.25),
    "activation": (0.6, 0.4, 0.1),
    "silu_mul": (0.9, 0.6, 0.1),
    "rope": (1.1, 0.7, 0.25),
    "kv_store": (1.4, 1.1, 0.25),
    "embed": (0.3, 0.3, 0.25),
    "patchify": (0.7, 0.7, 0.25),
    "copy": (3.7, 3.6, 1),
}
_ISAS = ("avx512vnni", "avx2", "reference")
# Sets with few figures of their own, and whose stand in for the others.
_LIKE = {"portable": "reference", "avxvnni": "avx2", "amxint8": "avx512vnni", "neondot": "avx2", "i8mm": "avx2"}
_OWN_RATES = {
    "amxint8": {"macs_w4a16": 115, "macs_w4a8": 200, "macs_w8a16": 115, "macs_w8a8": 190},  # one Xeon server with AMX
    "avxvnni": {"macs_w4a16": 23, "macs_w4a8": 43, "macs_w8a16": 23, "macs_w8a8": 43},  # the same, its 256-bit instructions
}


def default_cpu_spec(threads: int) -> HardwareSpec:
    """What is assumed of a CPU that has not been calibrated. Depends on nothing but the instruction set in use."""
    isa = str(_core.cpu_info()["isa"])
    like = _LIKE.get(isa, isa)
    column = _ISAS.index(like) if like in _ISAS else len(_ISAS) - 1

    def assumed(value: float, source: str) -> Figure:
        return Figure(float(value), source, "assumed")

    figures = {
        "fast_bytes": assumed(DEFAULT_FAST_BYTES, "default share of the last-level cache"),
        "reserved_bytes": assumed(0, "the share is ours as a whole"),
        "vector_bytes": assumed((64, 32, 16)[column], f"a register of {isa}"),
        "contexts": assumed(threads, "the threads asked for"),
        "clock_hz": assumed(3e9, "a typical clock, not calibrated"),
        "transfer_bytes_per_s": assumed(8e9, "a typical copy between DRAM and cache, not calibrated"),
        "transfer_latency_s": assumed(2e-7, "a few cache misses and a call, not calibrated"),
        "ddr_bytes_per_s": assumed(2e10, "typical of one or two threads, not calibrated"),
        "cache_bytes": assumed(DEFAULT_FAST_BYTES, "a typical share of the last-level cache, not calibrated"),
        "launch_s": assumed(5e-7, "handing a step to a spinning thread pool, not calibrated"),
    }
    own = _OWN_RATES.get(isa, {})
    for name, rates in _DEFAULT_RATES.items():
        whose = isa if name in own else _ISAS[column]  # a set without a figure of its own says whose it has
        figures[name] = assumed(own.get(name, rates[column]), f"usual for {whose}, not calibrated")
    return HardwareSpec("cpu", False, figures)


def calibration_path(threads: int, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where the calibration of this machine, instruction set, number of threads and engine is kept: a `HardwareSpec` as JSON."""
    key = "|".join((cpu_name(), str(_core.cpu_info()["isa"]), str(threads), engine_version()))
    return cache_folder(cache_dir) / f"calibration-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def cpu_spec(threads: int, staged: bool = False, *, cache_dir: str | os.PathLike[str] | None = None) -> HardwareSpec:
    """The CPU with this many threads: calibrated figures where there is a calibration, else `default_cpu_spec`.

    staged: as if its kernels could read fast memory only, named "cpu-staged".
    A calibration that cannot be used (of an older version, edited) is passed over, and logged.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise ValueError(f"threads is {threads!r}: expected 1 to 1024")
    spec = _calibrated(threads, cache_dir) or default_cpu_spec(threads)
    return spec.with_figures({}, name="cpu-staged" if staged else "cpu", staged=staged)


def _calibrated(threads: int, cache_dir: str | os.PathLike[str] | None) -> HardwareSpec | None:
    path = calibration_path(threads, cache_dir)
    try:
        spec = HardwareSpec.load(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("calibration not used: %s", error)
        return None
    if spec.figures["contexts"].value != threads:
        _log.warning("calibration not used: %s: contexts: expected %d, got %g", path, threads, spec.figures["contexts"].value)
        return None
    return spec


@functools.cache
def engine_version() -> str:
    """This package's version; "unknown" when it runs from a source tree."""
    try:
        return importlib.metadata.version("hypervl-engine")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def cpu_name() -> str:
    """The processor's model as the system names it."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()

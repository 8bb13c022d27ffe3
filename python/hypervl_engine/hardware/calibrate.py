"""Measures the figures of the CPU this runs on, in about ten seconds: the engine's own kernels on made-up operands.

The cost model (csrc/schedule/cost.cc) says how long a kernel step takes as a sum of amounts of work, each over a rate:
multiplications, weights taken apart, elements. Kernels are timed at several shapes, and the rates are those that explain
the times best (least squares of the relative errors). What cannot be measured (the size of fast memory, a register)
stays as it is in `default_cpu_spec`.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import _core
from .cpu import calibration_path, cpu_name, default_cpu_spec, engine_version
from .spec import Figure, HardwareSpec

_log = logging.getLogger("hypervl_engine")
_MIB = 1 << 20
# A rate beyond this is not told from no cost at all.
_FASTEST = 1e4
_TILE_ROWS = (1, 2, 6, 8, 24, 90)
_ROUNDS = 3
_QUANTIZE_GROUP = 100  # elements that a group counts for beside its own: kQuantizeGroup in cost.cc


def calibrate(threads: int, *, quick: bool = False, progress: bool = True) -> dict[str, float]:
    """The measured figures (names as in `FIGURES`) of this machine with `threads` threads.

    quick: every kernel runs a few times only and caches are not left: figures that look right, for tests.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise ValueError(f"threads is {threads!r}: expected 1 to 1024")
    with _Meter(threads, quick, progress) as meter:
        # All of it several times: what else the machine does rarely lasts as long as one round. The best time of each kernel counts.
        for _ in range(1 if quick else _ROUNDS):
            figures = {"contexts": float(threads), "clock_hz": meter.clock_hz(), "launch_s": _launch(meter)}
            figures |= _linear(meter) | _attention(meter) | _vrc(meter) | _elementwise(meter) | _memory(meter)
    return figures


def calibrated_spec(threads: int, *, quick: bool = False, progress: bool = True) -> HardwareSpec:
    """`default_cpu_spec` with every figure that `calibrate` measures, each with date, machine and version."""
    figures = calibrate(threads, quick=quick, progress=progress)
    info = _core.cpu_info()
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    source = f"hypervl-engine calibrate ({engine_version()}), {when}, {cpu_name()}, {info['isa']}, {threads} threads"
    measured = {name: Figure(value, source, "measured") for name, value in figures.items()}
    return default_cpu_spec(threads).with_figures(measured)


def save_calibration(spec: HardwareSpec, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Keeps a calibrated spec where `cpu_spec` finds it, in one step: readers see the old one or the new one. OSError."""
    path = calibration_path(int(spec.figures["contexts"].value), cache_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        spec.save(temporary)
        os.replace(temporary, path)
    return path


class _Meter:
    """Times kernels, in clock cycles of one thread where rates are fitted."""

    def __init__(self, threads: int, quick: bool, progress: bool) -> None:
        self.threads, self.quick = threads, quick
        self._bar = tqdm(desc="calibrating", unit=" kernels", disable=None if progress else True, leave=False)
        self._best: dict[tuple[object, ...], float] = {}

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def seconds(self, kind: str, *, threads: int | None = None, **numbers: int) -> float:
        """Of one call; the least of this and all earlier measurements of the same."""
        threads = threads or self.threads
        runs, run_seconds = (1, 0.0) if self.quick else (5, 3e-3)
        self._bar.update()
        key = (kind, threads, *sorted(numbers.items()))
        seconds = _core.time_kernel(kind, threads, runs=runs, run_seconds=run_seconds, **numbers)
        self._best[key] = min(seconds, self._best.get(key, seconds))
        return self._best[key]

    def clock_hz(self) -> float:
        return 1 / self.seconds("cycle")

    def cycles(self, kind: str, **numbers: int) -> float:
        """Cycles of all threads together, by the best clock so far."""
        return self.seconds(kind, **numbers) * self.threads / self._best["cycle", self.threads]


def fit_rates(amounts: Sequence[Mapping[str, float]], cycles: Sequence[float]) -> dict[str, float]:
    """The rates for which sum(amount / rate) is closest to the cycles of each measurement, in relative terms.

    Costs are not negative: what the times do not show gets a rate of `_FASTEST`. The unknowns are few: every choice of those that count is
    tried.
    """
    names = sorted({name for amount in amounts for name in amount})
    # Row i: what one cycle an element of each amount would be, as a share of the measured time.
    matrix = np.array([[amount.get(name, 0.0) / c for name in names] for amount, c in zip(amounts, cycles, strict=True)])
    best, least = np.zeros(len(names)), np.inf
    for chosen in itertools.product((False, True), repeat=len(names)):
        columns = np.flatnonzero(chosen)
        if not columns.size:
            continue
        costs = np.linalg.lstsq(matrix[:, columns], np.ones(len(matrix)), rcond=None)[0]
        error = float(np.square(matrix[:, columns] @ costs - 1).sum())
        if (costs >= 0).all() and error < least:
            least, best = error, np.zeros(len(names))
            best[columns] = costs
    return {name: 1 / max(cost, 1 / _FASTEST) for name, cost in zip(names, best, strict=True)}


def _launch(meter: _Meter) -> float:
    """Handing a small step to all threads and waiting for them: what it takes longer than one thread takes for its share."""
    numbers = {"rows": 1, "inputs": 256, "weight_bits": 4, "activation_bits": 16}
    share = meter.seconds("linear", threads=1, outputs=128, **numbers)
    return max(meter.seconds("launch"), meter.seconds("linear", outputs=128 * meter.threads, **numbers) - share)


def _linear(meter: _Meter) -> dict[str, float]:
    """Packed weights that stay in the second-level cache; groups of 32 and 128 tell dots from scales."""
    defaults = default_cpu_spec(meter.threads).figures
    outputs, inputs = 32 * max(24, 4 * meter.threads), 640
    amounts, cycles = [], []
    for weight_bits, activation_bits, group_size in itertools.product((4, 8), (16, 8), (128, 32)):
        tile = int(defaults[f"token_tile_a{activation_bits}"].value)
        for rows in _TILE_ROWS:
            numbers = {"rows": rows, "outputs": outputs, "inputs": inputs, "weight_bits": weight_bits, "activation_bits": activation_bits}
            cycles.append(meter.cycles("linear", group_size=group_size, **numbers))
            weights = outputs * inputs
            amounts.append({
                f"macs_w{weight_bits}a{activation_bits}": weights * rows,
                f"unpack_w{weight_bits}": weights * -(-rows // tile),
                "scales": weights * rows / group_size,
            })  # fmt: skip
    return fit_rates(amounts, cycles)


def _attention(meter: _Meter) -> dict[str, float]:
    """Tiles (every key seen) and language model (causal), wide and narrow heads, 16-bit K/V, 8-bit K/V with either activations."""
    amounts, cycles = [], []
    shapes = ((192, 4, 4, 80, 192, 0), (320, 4, 4, 32, 320, 0), (96, 8, 4, 112, 96, 1), (96, 8, 4, 112, 700, 1), (1, 32, 16, 112, 900, 1))
    for (rows, heads, kv_heads, head_dim, keys, causal), (bits, activation_bits) in itertools.product(shapes, ((16, 16), (8, 16), (8, 8))):
        numbers = {"rows": rows, "heads": heads * meter.threads, "kv_heads": kv_heads * meter.threads, "head_dim": head_dim, "keys": keys}
        cycles.append(meter.cycles("attention", causal=causal, bits=bits, activation_bits=activation_bits, **numbers))
        seen = rows * keys + causal * rows * (min(32, 2 * rows) - (rows - 1) / 2)  # pairs that are computed: visible_pairs in cost.cc
        pairs = seen * heads * meter.threads
        amounts.append({f"macs_attention_a{activation_bits}": 2 * head_dim * pairs, "exps_attention": pairs})
    return fit_rates(amounts, cycles)


def _vrc(meter: _Meter) -> dict[str, float]:
    amounts, cycles = [], []
    for pixels, inputs, channels in ((8192, 16, 64), (2048, 128, 32), (256, 320, 96), (64, 256, 768)):
        outputs = pixels * channels
        cycles.append(meter.cycles("vrc_pointwise", pixels=pixels, inputs=inputs, channels=channels))
        amounts.append({"macs_vrc": float(outputs * inputs), "requant_vrc": float(outputs)})
    for side, channels, stride in ((96, 64, 2), (48, 128, 1), (8, 768, 1)):
        outputs = (side // stride) ** 2 * channels
        cycles.append(meter.cycles("vrc_depthwise", side=side, channels=channels, stride=stride))
        amounts.append({"macs_vrc_depthwise": 9.0 * outputs, "requant_vrc": float(outputs)})
    return fit_rates(amounts, cycles)


def _elementwise(meter: _Meter) -> dict[str, float]:
    """Elements of the output a cycle, on tensors of about a megabyte.

    Inputs come partly from another core's cache; rates are between those with inputs that are near and those with inputs that the
    weights of a large layer have pushed out of the cores' own caches. Which it is depends on the model.
    """
    rows = 32 * meter.threads

    def rate(elements: int, kind: str, **numbers: int) -> float:
        return between(*(elements / meter.cycles(kind, cold=cold, **numbers) for cold in (0, 1)))

    def between(*rates: float) -> float:
        return float(np.exp(np.mean(np.log(rates))))

    def quantize(cols: int, bits: int, group: int) -> float:
        elements = rows * (cols + cols // group * _QUANTIZE_GROUP)
        return rate(elements, "quantize", rows=rows, cols=cols, activation_bits=bits, group_size=group)

    def rope(heads: int, head_dim: int) -> float:
        return rate(rows * heads * head_dim, "rope", rows=rows, heads=heads, head_dim=head_dim)

    def kv_store(heads: int, head_dim: int, bits: int) -> float:
        return rate(2 * 96 * heads * head_dim, "kv_store", rows=96, kv_heads=heads, head_dim=head_dim, bits=bits)

    side, heads = 4 * meter.threads, 4 * meter.threads
    return {
        # cost.cc counts a LayerNorm 1.5 times.
        "norm": between(
            rate(rows * 1536, "norm", rows=rows, cols=1536, layer_norm=0),
            1.5 * rate(rows * 896, "norm", rows=rows, cols=896, layer_norm=1),
        ),
        "quantize": between(*(quantize(1536, bits, group) for bits in (16, 8) for group in (32, 128))),
        "activation": between(*(rate(rows * 3584, "activation", rows=rows, cols=3584, function=f) for f in (0, 1))),
        "silu_mul": rate(rows * 4608, "silu_mul", rows=rows, cols=4608),
        "rope": between(rope(12, 96), rope(20, 32)),
        "kv_store": between(kv_store(heads, 96, 16), kv_store(heads, 80, 8), kv_store(heads, 40, 16)),
        "embed": between(*(rows * 1536 / meter.cycles("embed", rows=rows, cols=1536, group_size=group) for group in (32, 128))),
        "patchify": side * side * 3 * 14 * 14 / meter.cycles("patchify", side=side, patch=14),
        "copy": rate(side * side * 896, "pixel_shuffle", side=side, cols=896),
    }


def _memory(meter: _Meter) -> dict[str, float]:
    """Reads of memory by sums and by the linear kernel itself; where caches end; copies by one thread."""
    big = (8 if meter.quick else 256) * _MIB
    read = big / meter.seconds("read", bytes=big)
    outputs, inputs = 4096, 1536
    weight_bytes = outputs * inputs // 2 + outputs * inputs // 128 * 2
    numbers = {"rows": 1, "outputs": outputs, "inputs": inputs, "weight_bits": 4, "activation_bits": 16}
    streamed = weight_bytes / meter.seconds("linear", copies=big // weight_bytes, **numbers)
    cached = weight_bytes / meter.seconds("linear", **numbers)
    # Where arithmetic is what takes the time, the kernel says nothing about memory.
    bandwidth = streamed if streamed < min(read, 0.9 * cached) else read
    # Caches end where reads are nearer to memory's rate than to that of the first level beyond a core.
    cache_bytes, fast = 0, 0.0
    for size in () if meter.quick else (2, 4, 8, 16, 32, 64):
        rate = size * _MIB / meter.seconds("read", bytes=size * _MIB)
        fast = rate if size == 2 else fast
        if rate < np.sqrt(fast * read):
            break
        cache_bytes = size * _MIB
    amounts, cycles = [], []
    for block in (4096, 32768, 262144, 1048576):
        cycles.append(meter.seconds("copy", bytes=big // 2, block=block) * 1e9)
        amounts.append({"bytes": float(block), "transfers": 1.0})
    rates = fit_rates(amounts, cycles)  # a nanosecond
    return {
        "ddr_bytes_per_s": bandwidth,
        "cache_bytes": float(cache_bytes),
        "transfer_bytes_per_s": rates["bytes"] * 1e9,
        "transfer_latency_s": 1e-9 / rates["transfers"],
    }

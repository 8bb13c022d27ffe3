"""docs/peers.md and the README's table, written from the results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from tools.experiments.machine import NOISY
from tools.experiments.results import Record
from tools.experiments.tile_memory_report import commits, number, processor, table
from tools.peers.cases import BRANCHES, OURS, TILES, Case, all_cases
from tools.peers.llm import DECODES, PREFILLS
from tools.peers.targets import Results, Target, targets

_UNITS = {"latency_ms": " ms", "ms": " ms", "peak_rss_mib": " MiB", "error": ""}


def target_table(results: Results) -> str:
    """Every target: ours, the best peer, the ratio, and what was asked for."""
    return table(["workload", "ours", "best peer", "ours is better by", "asked for", "ours, of the limit"], list(_target_rows(results)))


def _target_rows(results: Results) -> Iterator[list[str]]:
    for target in targets():
        found = results.compare(target)
        if found is None:
            yield [
                target.label,
                _value(target, results.median(Case(target.workload, OURS, target.ours), target.metric)),
                *"--",
                _asked(target),
                "-",
            ]
            continue
        reached = found.ratio >= target.reach
        share = results.share(Case(target.workload, OURS, target.ours), target.metric)
        yield [
            target.label, _value(target, found.ours), f"{_value(target, found.theirs)} ({' '.join(found.peer)})",
            f"{'**' * reached}{found.ratio:.2f}x{'**' * reached}", _asked(target), "-" if share is None else f"{share:.0%}",
        ]  # fmt: skip


def _asked(target: Target) -> str:
    return f"{target.reach:.2f}x"


def _value(target: Target, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2e}" if target.metric == "error" else f"{number(value)}{_UNITS.get(target.metric, ' tok/s')}"


def absolute_table(results: Results) -> str:
    """What is asked for without a peer."""
    decode, vrc, a16 = Case("llm", OURS, "a16"), Case("vrc", OURS, "int8"), Case("llm", OURS, "a16")
    share, ms, load = results.share(decode, "decode_8"), results.median(vrc, "ms"), results.median(a16, "load_s")
    rows = [
        ["decode, context 8, of the read bandwidth", "-" if share is None else f"{share:.0%}", "at least 95%"],
        ["VRC, 1 thread", "-" if ms is None else f"{number(ms)} ms", "under 4 ms"],
        ["load() to the first logits, packed weights in the page cache", "-" if load is None else f"{load:.2f} s", "under 0.3 s"],
    ]
    return table(["", "ours", "asked for"], rows)


def llm_table(results: Results) -> str:
    """All engines and settings, medians of the rounds, share of the limit in parentheses."""
    metrics = [f"decode_{n}" for n in DECODES] + [f"prefill_{n}" for n in PREFILLS]
    rows = []
    for case in all_cases():
        if case.workload != "llm" or case not in results.rounds:
            continue
        cells = [f"{case.engine} {case.setting}"]
        for metric in metrics:
            value, share = results.median(case, metric), results.share(case, metric)
            cells.append("-" if value is None else f"{number(value)}" + (f" ({share:.0%})" if share else ""))
        for metric in ("load_s", "peak_rss_mib"):
            value = results.median(case, metric)
            cells.append("-" if value is None else number(value))
        rows.append(cells)
    heads = [f"decode at {n}, tok/s" for n in DECODES] + [f"prefill {n}, tok/s" for n in PREFILLS]
    return table(["engine", *heads, "load, s", "peak, MiB"], rows)


def vision_table(results: Results) -> str:
    """Milliseconds of one tile, share of the limit in parentheses."""
    columns = [(branch, patches) for branch in BRANCHES for patches in TILES]
    rows = []
    for engine, setting in ((OURS, "a8"), ("openvino", "w8a8"), (OURS, "a16"), ("openvino", "bf16")):
        cells = [f"{engine} {setting}"]
        for branch, patches in columns:
            case = Case(f"vision {branch} {patches}", engine, setting)
            value, share = results.median(case, "latency_ms"), results.share(case, "latency_ms")
            cells.append("-" if value is None else f"{number(value)}" + (f" ({share:.0%})" if share else ""))
        rows.append(cells)
    return table(["engine", *(f"{branch} {patches}" for branch, patches in columns)], rows)


def error_table(results: Results) -> str:
    """Median relative L2 by token against float32 of the same dequantised weights; the worst token's in parentheses."""
    columns = ["llm", *(f"vision {branch}" for branch in BRANCHES)]
    rows = []
    for engine, setting in ((OURS, "a16"), ("openvino", "bf16"), ("torch", "bf16"), (OURS, "a8"), ("openvino", "w8a8")):
        cells = [f"{engine} {setting}"]
        for column in columns:
            case = Case(f"accuracy {column}", engine, setting)
            value, worst = results.median(case, "error"), results.median(case, "worst_error")
            cells.append("-" if value is None or worst is None else f"{value:.2e} ({worst:.1e})")
        rows.append(cells)
    return table(["engine", "logits", *(f"features, {branch}" for branch in BRANCHES)], rows)


def conditions(results: Results) -> str:
    """Machine, versions, when, and how busy it was."""
    found = [record for rounds in results.rounds.values() for record in rounds.values()]
    if not found:
        return "Nothing is measured yet."
    versions: dict[str, str] = {}
    for record in found:
        versions |= record.get("versions", {})
    limits: dict[str, list[float]] = {}
    for record in found:
        for kind, rate in record.get("limits", {}).items():
            if record["limit_threads"].get(kind) == 2:
                limits.setdefault(kind, []).append(rate)
    days = sorted(record["when"] for record in found)
    busy = sum(record["others_before"] > NOISY for record in found)
    rates = "; ".join(
        f"{kind} {statistics.median(values) / 1e9:.0f} ({min(values) / 1e9:.0f} to {max(values) / 1e9:.0f})"
        for kind, values in limits.items()
    )
    counts = {len(rounds) for case, rounds in results.rounds.items() if not case.once}
    rounds = f", {_between(counts)} rounds a workload" if counts else ""
    return (
        f"{len(found)} runs{rounds} between {days[0]} and {days[-1]} on {processor()}, 2 threads; hypervl at {commits(_ours(results))}; "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + f". Limits in the same runs, G/s: {rates}. Before {busy} runs other processes took more than {NOISY:.0%} of the processors."
    )


def _between(counts: set[int]) -> str:
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _ours(results: Results) -> list[Record]:
    return [record for case, rounds in results.rounds.items() if case.engine == OURS for record in rounds.values()]


def failures(results: Results) -> str:
    """What was not measured and why."""
    if not results.failures:
        return ""
    return "Not measured:\n\n" + "\n".join(f"- {case.label}: {reason}" for case, reason in results.failures.items()) + "\n"


def document(results: Results) -> str:
    """All of docs/peers.md."""
    parts = [
        "# Beside other engines\n", conditions(results) + "\n", _EXPLANATION, "## Targets\n", target_table(results) + "\n",
        absolute_table(results) + "\n",
        "## Language model, Qwen3-1.7B shape\n", llm_table(results) + "\n", "## Vision tower, one tile, ms\n", vision_table(results) + "\n",
        "## Errors\n", error_table(results) + "\n", failures(results),
    ]  # fmt: skip
    return "\n".join(parts).rstrip("\n") + "\n"


def write(results: Results, docs: Path) -> None:
    """Writes peers.md into a folder."""
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "peers.md").write_text(document(results), encoding="utf-8")


_EXPLANATION = """\
Written by `python tools/bench_peers.py`. Random weights of the published shapes: values do not change what runs. Every figure comes from a
process of its own; the engines of a workload take turns, in alternating order, and a ratio is the median over the rounds of the ratio
within a round, since machines drift. Of a peer's settings the best counts, for each figure anew:

- **llama.cpp**, --pure, with flash attention ("fa") or without, weights mapped from the file (its default), read into memory ("unmapped":
  mapped pages stay resident beside the repacked weights) or not repacked ("no-repack"). Q4_0, and for prefill Q8_0 too: a weight has 8 bits
  then, ours has 4.
- **OpenVINO**: 4-bit weights in groups of 128 in all layers, and what it chooses otherwise ("default") or 8-bit activations in groups of
  128 asked for ("dq128"). Computing in bf16 it does not heed that: logits are the same to the last bit. In f32 it does ("f32-dq128").
- **ONNX Runtime**: 4-bit weights in groups of 128, accuracy level 4 (8-bit activations). **torch**: bf16.
- **hypervl**: 4-bit weights in groups of 128 (vision: 8 bit), activations of 16 (A16) or 8 bits (A8).

- **Share of the limit**, in parentheses: what the engine does over what this machine does at most, measured before and after the run
  (`hypervl-engine bench roofline`). Decode: bytes of weights and cache read, over the read bandwidth. Prefill and vision: multiplications
  and additions over the rate of the dot product the engine uses: bytes for 8-bit activations, two of them each for hypervl's A16; bf16 for
  torch; for OpenVINO what its execution graph names, and no share where that leaves it open.
- **Vision**: the tower from pixels (OpenVINO: from patches) to its last norm. **Photo**: from decoded pixels to normalised tiles at half
  size.
- **Load**: from a file on disk (in the page cache) to the logits of a short prompt, imports apart. **Peak**: of resident memory, with all
  workloads of the language model; mapped files count.
- **Errors**: relative L2 by token against transformers in float32 on the same dequantised weights, with outlier channels, on inputs that
  calibration did not see; the median, and the worst token's.
"""

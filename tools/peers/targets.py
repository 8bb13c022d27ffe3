"""What issue 4 asks of each workload, and how far results are: medians of the ratios within rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from hypervl_engine.convert.random_model import preset_config
from hypervl_engine.work import prefill_operations

from tools.experiments.results import Record, ResultsFile
from tools.experiments.vision_shapes import SHAPES
from tools.peers.cases import BRANCHES, OURS, TILES, Case, all_cases
from tools.peers.llm import DECODES, PREFILLS

MOST_ROUNDS = 100
_HALF_CACHE = 28 * 8 * 128 * 2 * 2  # bytes of float16 keys and values a position
_MOBILENET_OPERATIONS = 2 * 300.8e6
# (kind of dot product, dots a multiplication) that bound an engine with a setting; hypervl's 16-bit activations are two planes of bytes.
_DOTS = {
    (OURS, "a16"): ("int8", 2), (OURS, "a8"): ("int8", 1), ("llama.cpp", "fa"): ("int8", 1), ("llama.cpp", "no-fa"): ("int8", 1),
    ("openvino-genai", "dq128"): ("int8", 1), ("openvino-genai", "default"): ("bf16", 1), ("torch", "bf16"): ("bf16", 1),
    ("onnxruntime-genai", "int4"): ("int8", 1), ("openvino", "w8a8"): ("int8", 1), ("openvino", "bf16"): ("bf16", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Ours beside the best of some peers. metric: a key of the results; more: whether more of it is better; reach: the gain asked for."""

    label: str
    workload: str
    metric: str
    ours: str
    peers: tuple[tuple[str, str], ...]
    reach: float
    more: bool = False


_LLAMA = (("llama.cpp", "fa"), ("llama.cpp", "no-fa"))
_OPENVINO = (("openvino-genai", "dq128"), ("openvino-genai", "default"))


def targets() -> list[Target]:
    """In the order of the issue's table."""
    found = [
        Target("decode, context 8, against llama.cpp", "llm", "decode_8", "a16", _LLAMA, 1.05, True),
        Target("decode, context 512, against llama.cpp", "llm", "decode_512", "a16", _LLAMA, 1.25, True),
        Target("decode, context 8, against OpenVINO GenAI", "llm", "decode_8", "a16", _OPENVINO, 1.40, True),
    ]
    for tokens in PREFILLS:
        peers = (("openvino-genai", "dq128"),)
        found.append(Target(f"prefill {tokens}, A8, against OpenVINO GenAI", "llm", f"prefill_{tokens}", "a8", peers, 1.10, True))
    for tokens in PREFILLS:
        both = (("torch", "bf16"), *_LLAMA)
        found.append(
            Target(f"prefill {tokens}, A16, against torch bf16 and llama.cpp", "llm", f"prefill_{tokens}", "a16", both, 1.10, True)
        )
    for ours, theirs, reach in (("a8", "w8a8", 1.0), ("a16", "bf16", 0.95)):
        for branch in BRANCHES:
            for patches in TILES:
                label = f"tile of {patches}, {branch}, {ours.upper()}, against OpenVINO {theirs}"
                found.append(Target(label, f"vision {branch} {patches}", "latency_ms", ours, (("openvino", theirs),), reach))
    for ours, theirs, reach in (("a8", "w8a8", 1.0), ("a16", "bf16", 4.0)):
        for branch in BRANCHES:
            label = f"error of features, {branch}, {ours.upper()}, against OpenVINO {theirs}"
            found.append(Target(label, f"accuracy vision {branch}", "error", ours, (("openvino", theirs),), reach))
    found += [
        Target("VRC, 1 thread, against torch eager", "vrc", "ms", "int8", (("torch", "float32"),), 5.0),
        Target("12-megapixel photo to tiles, against Pillow and numpy", "preprocess", "ms", "int8", (("pillow", "float32"),), 3.0),
        Target("peak resident memory, text, against llama.cpp", "llm", "peak_rss_mib", "a16", _LLAMA, 1 / 0.95),
    ]
    return found


@dataclass(frozen=True)
class Comparison:
    """ratio: how much better ours is (above 1), the median over rounds; peer: the best of the target's, by its median."""

    ratio: float
    ours: float
    theirs: float
    peer: tuple[str, str]
    rounds: int


class Results:
    """The rounds of every case that were measured; what failed counts as not there, but is remembered."""

    def __init__(self, results: ResultsFile) -> None:
        self.rounds: dict[Case, dict[int, Record]] = {}
        self.failures: dict[Case, str] = {}
        for case in all_cases():
            for number in range(1 if case.once else MOST_ROUNDS):
                result = results.get(case.record(number))
                if result is None:
                    continue
                if result["status"] == "ok":
                    self.rounds.setdefault(case, {})[number] = result
                else:
                    self.failures[case] = f"{result['status']}: {result.get('reason', '')}"

    def values(self, case: Case, metric: str) -> dict[int, float]:
        """By round."""
        return {number: result[metric] for number, result in self.rounds.get(case, {}).items() if metric in result}

    def median(self, case: Case, metric: str) -> float | None:
        values = self.values(case, metric)
        return statistics.median(values.values()) if values else None

    def compare(self, target: Target) -> Comparison | None:
        """None where ours or every peer is missing, or no round has both."""
        ours = self.values(Case(target.workload, OURS, target.ours), target.metric)
        peers = {peer: found for peer in target.peers if (found := self.values(Case(target.workload, *peer), target.metric))}
        if not ours or not peers:
            return None
        best = (max if target.more else min)(peers, key=lambda peer: statistics.median(peers[peer].values()))
        theirs = peers[best]
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            return None
        ratios = [ours[n] / theirs[n] if target.more else theirs[n] / ours[n] for n in both]
        median = statistics.median
        return Comparison(median(ratios), median(ours.values()), median(theirs.values()), best, len(both))

    def share(self, case: Case, metric: str) -> float | None:
        """Of the limit measured round each run, the median over rounds; None where no limit is named."""
        amount = _amount(case, metric)
        if amount is None:
            return None
        kind, work = amount
        found = [work(r) / r["limits"][kind] for r in self.rounds.get(case, {}).values() if metric in r and kind in r.get("limits", {})]
        return statistics.median(found) if found else None


def _amount(case: Case, metric: str) -> tuple[str, Callable[[Record], float]] | None:
    """The limit's kind, and bytes or operations a second that a result stands for."""
    name, _, number = metric.partition("_")
    if case.workload == "vrc":
        return ("int8", lambda r: _MOBILENET_OPERATIONS / r["ms"] * 1e3) if case.engine == OURS else None
    if case.workload == "llm" and name == "decode" and int(number) in DECODES:
        context = int(number)
        return "read", lambda r: r[metric] * (r["model_bytes"] + r.get("cache_bytes_per_token", _HALF_CACHE) * context)
    if (case.engine, case.setting) not in _DOTS:
        return None
    kind, dots = _DOTS[case.engine, case.setting]
    if case.workload == "llm" and name == "prefill":
        operations = prefill_operations(preset_config("hypervl-1.8b", None), int(number)) / int(number)
        return kind, lambda r: r[metric] * operations * dots
    if case.workload.startswith("vision") and metric == "latency_ms":
        _, branch, patches = case.workload.split()
        operations = SHAPES[branch].operations(int(patches))
        return kind, lambda r: operations * dots / r[metric] * 1e3
    return None

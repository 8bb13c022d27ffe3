"""What issue 4 asks of each workload, and how far results are: medians of the ratios within rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hypervl_engine.convert.random_model import preset_config
from hypervl_engine.work import prefill_operations

from tools.experiments.results import Record, ResultsFile
from tools.experiments.vision_shapes import SHAPES
from tools.peers import llm_llama_cpp, llm_openvino
from tools.peers.cases import BRANCHES, OURS, TILES, Case, all_cases
from tools.peers.llm import DECODES, PREFILLS

MOST_ROUNDS = 100
_HALF_CACHE = 28 * 8 * 128 * 2 * 2  # bytes of float16 keys and values a position
_MOBILENET_OPERATIONS = 2 * 300.8e6
# (kind of dot product, dots a multiplication) that bound an engine with a setting; hypervl's 16-bit activations are two planes of bytes,
# llama.cpp quantises activations to bytes, and so does ONNX Runtime at accuracy level 4. OpenVINO's kind is in its results.
_DOTS = {
    (OURS, "a16"): ("int8", 2), (OURS, "a8"): ("int8", 1), ("torch", "bf16"): ("bf16", 1), ("onnxruntime-genai", "int4"): ("int8", 1),
    **{("llama.cpp", setting): ("int8", 1) for setting in llm_llama_cpp.SETTINGS},
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


_LLAMA = tuple(("llama.cpp", setting) for setting in llm_llama_cpp.SETTINGS)  # a setting that lacks a metric does not count for it
_OPENVINO = tuple(("openvino-genai", setting) for setting in llm_openvino.PROPERTIES)


def targets() -> list[Target]:
    """In the order of the issue's table."""
    found = [
        Target("decode, context 8, against llama.cpp", "llm", "decode_8", "a16", _LLAMA, 1.05, True),
        Target("decode, context 512, against llama.cpp", "llm", "decode_512", "a16", _LLAMA, 1.25, True),
        Target("decode, context 8, against OpenVINO GenAI", "llm", "decode_8", "a16", _OPENVINO, 1.40, True),
    ]
    for tokens in PREFILLS:
        found.append(Target(f"prefill {tokens}, A8, against OpenVINO GenAI", "llm", f"prefill_{tokens}", "a8", _OPENVINO, 1.10, True))
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
        rounds = self.rounds.get(case, {}).values()
        found = [share for record in rounds if metric in record and (share := _share(case, metric, record)) is not None]
        return statistics.median(found) if found else None


def _share(case: Case, metric: str, record: Record) -> float | None:
    """One round's."""
    amount = _amount(case, metric, record)
    if amount is None or amount[0] not in record.get("limits", {}):
        return None
    kind, work = amount
    return work / float(record["limits"][kind])


def _amount(case: Case, metric: str, record: Record) -> tuple[str, float] | None:
    """The limit's kind, and bytes or operations a second that a result stands for."""
    name, _, number = metric.partition("_")
    if case.workload == "vrc":
        return ("int8", _MOBILENET_OPERATIONS / record["ms"] * 1e3) if case.engine == OURS else None
    if case.workload == "llm" and name == "decode" and int(number) in DECODES:
        cache = record.get("cache_bytes_per_token", _HALF_CACHE) * int(number)
        return "read", record[metric] * (record["model_bytes"] + cache)
    dots = (record["dots"], 1) if record.get("dots") else _DOTS.get((case.engine, case.setting))
    if dots is None:
        return None
    if case.workload == "llm" and name == "prefill":
        operations = prefill_operations(preset_config("hypervl-1.8b", None), int(number)) / int(number)
        return dots[0], record[metric] * operations * dots[1]
    if case.workload.startswith("vision") and metric == "latency_ms":
        _, branch, patches = case.workload.split()
        return dots[0], SHAPES[branch].operations(int(patches)) * dots[1] / record[metric] * 1e3
    return None

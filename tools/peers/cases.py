"""What is measured: workloads, and the engines and settings that each runs on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.experiments.checkpoints import full_checkpoint, tower_checkpoint
from tools.peers import llm_llama_cpp, llm_openvino

TILES = {256: 256, 576: 384}  # patches -> side of a tile in pixels
BRANCHES = ("large", "base")
OURS = "hypervl"

# Packages that an engine needs to be there at all; what its models are made with besides, it says when it fails.
PACKAGES = {
    OURS: ["hypervl_engine"],
    "llama.cpp": ["llama_cpp"],
    "openvino": ["openvino"],
    "openvino-genai": ["openvino", "openvino_genai"],
    "onnxruntime-genai": ["onnxruntime_genai"],
    "torch": ["torch", "transformers"],
    "pillow": ["PIL", "transformers"],
}
_LLM = {
    OURS: ("a16", "a8"),
    "llama.cpp": tuple(llm_llama_cpp.SETTINGS),
    "openvino-genai": tuple(llm_openvino.PROPERTIES),
    "torch": ("bf16",),
    "onnxruntime-genai": ("int4",),
}
_LLM_MODULES = {
    OURS: "llm_hypervl", "llama.cpp": "llm_llama_cpp", "openvino-genai": "llm_openvino", "torch": "llm_torch",
    "onnxruntime-genai": "llm_onnxruntime",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """workload: "llm", "vision large 256", "vrc", "preprocess", "accuracy llm", "accuracy vision large". Every case runs once a round."""

    workload: str
    engine: str
    setting: str

    @property
    def label(self) -> str:
        return f"{self.workload}: {self.engine} {self.setting}"

    def record(self, number: int) -> dict[str, Any]:
        """How a round's result is kept."""
        return {"workload": self.workload, "engine": self.engine, "setting": self.setting, "round": number}

    @property
    def once(self) -> bool:
        """Whether repeating it would give the same numbers."""
        return self.workload.startswith("accuracy")

    @property
    def limits(self) -> tuple[tuple[str, int], ...]:
        """(kind, threads) of the machine's limits that bound it on some engine."""
        if self.workload == "llm":
            return (("read", 2), ("int8", 2), ("bf16", 2))
        if self.workload.startswith("vision"):
            return (("int8", 2), ("bf16", 2))
        return (("int8", 1),) if self.workload == "vrc" else ()


def all_cases() -> Iterator[Case]:
    """By workload; within one those that are compared lie side by side."""
    for engine, settings in _LLM.items():
        yield from (Case("llm", engine, setting) for setting in settings)
    for branch in BRANCHES:
        for patches in TILES:
            at = f"vision {branch} {patches}"
            yield from (Case(at, OURS, "a8"), Case(at, "openvino", "w8a8"), Case(at, OURS, "a16"), Case(at, "openvino", "bf16"))
    yield from (Case("vrc", OURS, "int8"), Case("vrc", "torch", "float32"))
    yield from (Case("preprocess", OURS, "int8"), Case("preprocess", "pillow", "float32"))
    yield from (Case("accuracy llm", OURS, "a16"), Case("accuracy llm", OURS, "a8"), Case("accuracy llm", "torch", "bf16"))
    for branch in BRANCHES:
        at = f"accuracy vision {branch}"
        yield from (Case(at, OURS, "a16"), Case(at, OURS, "a8"), Case(at, "openvino", "w8a8"), Case(at, "openvino", "bf16"))
        yield Case(at, "torch", "bf16")


def module(case: Case) -> str:
    """The module that measures it."""
    if case.workload == "llm":
        return f"tools.peers.{_LLM_MODULES[case.engine]}"
    if case.workload.startswith("vision"):
        return f"tools.experiments.encode_{'hypervl' if case.engine == OURS else 'openvino'}"
    return "tools.peers." + {"vrc": "vrc", "preprocess": "preprocess", "accuracy llm": "accuracy_llm"}.get(case.workload, "accuracy_vision")


def arguments(case: Case, folder: Path, checkpoint: Path | None, llama_bench: Path | None) -> dict[str, Any]:
    """What its module wants to know. Makes our checkpoints where they are missing."""
    given: dict[str, Any] = {"engine": case.engine, "setting": case.setting, "cache": str(folder)}
    kind, _, rest = case.workload.partition(" ")
    if kind == "llm":
        full = checkpoint or full_checkpoint(folder)
        from hypervl_engine.config import read_json

        text = read_json(full / "config.json")["text_config"]
        text["eos_token_id"] = _first(text["eos_token_id"])
        given |= {"checkpoint": str(full), "tokenizer": str(full / "tokenizer.json"), "text": text}
        if llama_bench is not None:
            given["llama_bench"] = str(llama_bench.resolve())
    elif kind == "vision":
        branch, patches = rest.split()
        side = TILES[int(patches)]
        given |= {"branch": branch, "precision": case.setting, "image": side, "tile": side}
        if case.engine == OURS:
            given["checkpoint"] = str(tower_checkpoint(folder, branch))
    elif kind in ("vrc", "preprocess"):
        if case.engine == OURS:
            given["checkpoint"] = str(full_checkpoint(folder, layers=1))
    elif rest.startswith("vision"):
        given["branch"] = rest.split()[1]
    return given


def needs_preparation(case: Case) -> bool:
    """Whether its module makes a model first, in a process of its own."""
    if case.workload == "llm" or case.workload.startswith("vision"):
        return case.engine != OURS
    return case.once


def _first(ids: Any) -> Any:
    return ids[0] if isinstance(ids, list) else ids

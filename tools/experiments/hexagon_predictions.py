"""What the cost model says of Hexagon beside what others published: `python -m tools.experiments.hexagon_predictions [CHECKPOINT]`.

Predictions only: nothing runs on a device. CHECKPOINT has the published 1.8B shape (its language model is Qwen3-1.7B's, its large branch
has 24 layers of width 1024); by default one with random weights is made. Writes a table and the figures used into docs/cost_model.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypervl_engine import _core
from hypervl_engine.engine import Engine, load
from hypervl_engine.hardware import HardwareSpec, preset

from tools.experiments.checkpoints import full_checkpoint
from tools.experiments.sections import COST_MODEL, replace_section

PROMPT = 640
CONTEXT = 1024
VIT_SIDE = 512  # pixels: 1024 patches of 16 x 16
SHOWN = (
    "contexts", "clock_hz", "macs_w4a16", "macs_w8a16", "scales", "unpack_w4", "unpack_w8", "macs_attention_a16", "exps_attention",
    "transfer_bytes_per_s", "transfer_latency_s", "launch_s",
)  # fmt: skip


@dataclass(frozen=True)
class Predictor:
    """Predicted seconds of runs of an engine's Programs on another machine."""

    engine: Engine
    spec: HardwareSpec

    def seconds(self, stage: str, rows: int | None = None, position: int | None = None) -> float:
        programs = _core.model_programs(self.engine.model, "large", [(VIT_SIDE, VIT_SIDE)], CONTEXT)
        program = next(program for name, program, _ in programs if name.split(" ")[0] == stage)
        plan = _core.make_plan(program, self.spec.values(), self.spec.budget)
        report: dict[str, Any] = _core.describe_plan(program, plan, self.spec.values(), rows=rows, position=position)
        return float(report["predicted_ms"]) * 1e-3

    def prefill_rate(self) -> float:
        """Tokens a second of a prompt of `PROMPT`, chunk by chunk, the logits of its last token included."""
        chunk = _core.PREFILL_CHUNK
        chunks = sum(self.seconds("prefill", min(chunk, PROMPT - at), at) for at in range(0, PROMPT, chunk))
        return PROMPT / (chunks + self.seconds("head", 1, 0))

    def decode_rate(self) -> float:
        """Tokens a second after such a prompt."""
        return 1 / (self.seconds("decode", 1, PROMPT) + self.seconds("head", 1, 0))

    def tower_ms(self) -> float:
        return self.seconds("tile") * 1e3


@dataclass(frozen=True)
class Published:
    what: str
    device: str
    target: str
    value: float
    unit: str
    source: str
    predict: Callable[[Predictor], float]


_GEN3, _ELITE = ("Snapdragon 8 Gen 3", "hexagon-v75"), ("Snapdragon 8 Elite", "hexagon-v79")
CASES = (
    Published("Qwen3-1.7B W4A16, prefill of 640 tokens", *_GEN3, 758, "tok/s", "mllm", Predictor.prefill_rate),
    Published("Qwen3-1.7B W4A16, decode after them", *_GEN3, 25.8, "tok/s", "mllm", Predictor.decode_rate),
    Published("ViT, 24 layers of width 1024, 1024 patches", *_ELITE, 161, "ms", "QHexRT, with HMX", Predictor.tower_ms),
)


def table(engine: Engine) -> str:
    """Markdown: predictions beside published figures, then the figures they follow from."""
    lines = [
        "| case | device | published | by | prediction | of the published time | target |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        value = case.predict(Predictor(engine, preset(case.target)))
        time_ratio = case.value / value if case.unit == "tok/s" else value / case.value
        lines.append(
            f"| {case.what} | {case.device} | {case.value:g} {case.unit} | {case.source} | {value:.3g} {case.unit} (prediction) | "
            f"{time_ratio:.2f} | {case.target} |"
        )
    targets = list(dict.fromkeys(case.target for case in CASES))
    lines += ["", "Predicted from (the presets say where each figure comes from):", "", "| figure | " + " | ".join(targets) + " |"]
    lines.append("| --- |" + " --- |" * len(targets))
    for name in SHOWN:
        figures = [preset(target).figures[name] for target in targets]
        lines.append(f"| {name} | " + " | ".join(f"{figure.value:g} ({figure.status})" for figure in figures) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT")
    options = parser.parse_args()
    path = options.checkpoint or full_checkpoint(Path("build/experiments"))
    text = table(load(path, threads=1, context_length=CONTEXT, progress=False))
    replace_section(COST_MODEL, "hexagon", text)
    print(text)


if __name__ == "__main__":
    main()

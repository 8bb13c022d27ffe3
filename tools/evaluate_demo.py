"""Answers of the engine on held-out pictures: by branch and family, at the automatic scale, at 1.0, at 0.1, and on blank pictures.

    python tools/evaluate_demo.py --count 1000 --out docs/demo_accuracy.md

Every picture is asked its first question; an answer is right when it equals the expected one exactly. Resumable: answers are kept
in a JSON-lines file (--state; another one for other bits), one line a picture, and are not asked for again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import hypervl_engine
import numpy as np
from hypervl_engine.demo import render
from tqdm import tqdm

FIRST_SEED = 500_000  # `make demo SEED=n` draws from small seeds
SETTINGS: tuple[tuple[str, str, float | str], ...] = (
    ("large, automatic scale", "large", "auto"),
    ("base, automatic scale", "base", "auto"),
    ("large, scale 1.0", "large", 1.0),
    ("base, scale 1.0", "base", 1.0),
    ("large, scale 0.1", "large", 0.1),
)
BLANK = "large, blank picture"


def evaluate_one(engine: hypervl_engine.Engine, seed: int) -> dict[str, Any]:
    """What the engine answers about the picture of a seed, by setting."""
    sample = render.sample(seed, split="heldout")
    question = sample.questions[0]
    line: dict[str, Any] = {"seed": seed, "family": question.family, "kind": question.kind, "expected": question.answer}

    def ask(image: Any, branch: str, scale: float | str) -> dict[str, Any]:
        result = engine.generate(image, question.question, branch=branch, scale=scale, max_new_tokens=24)
        return {"text": result.text.strip(), "tokens": result.stats.visual_tokens, "scale": result.stats.scale}

    for name, branch, scale in SETTINGS:
        line[name] = ask(sample.image, branch, scale)
    line[BLANK] = ask(np.full((sample.image.height, sample.image.width, 3), 255, np.uint8), "large", "auto")
    return line


def percent(lines: list[dict[str, Any]], setting: str) -> float:
    """Share of right answers, per cent."""
    return 100.0 * statistics.fmean(line[setting]["text"] == line["expected"] for line in lines) if lines else float("nan")


def report(lines: list[dict[str, Any]]) -> str:
    """The Markdown tables."""
    groups: dict[str, list[dict[str, Any]]] = {"all": lines}
    for key in ("family", "kind"):
        found = defaultdict(list)
        for line in lines:
            found[line[key]].append(line)
        groups |= {f"{key} {name}": found[name] for name in sorted(found)}
    settings = [*(name for name, _, _ in SETTINGS), BLANK]
    out = ["| right answers, % | pictures | " + " | ".join(settings) + " |", "| --- |" + " ---: |" * (len(settings) + 1)]
    for name, members in groups.items():
        cells = " | ".join(f"{percent(members, s):.1f}" for s in settings)
        out.append(f"| {name} | {len(members)} | {cells} |")
    scales = [line[SETTINGS[0][0]]["scale"] for line in lines]
    auto, full = (sum(line[SETTINGS[i][0]]["tokens"] for line in lines) for i in (0, 2))
    out += [
        "",
        f"VRC: {100 * (1 - auto / full):.1f} % fewer visual tokens than at scale 1.0; scales {min(scales):.2f} .. {max(scales):.2f}, "
        f"mean {statistics.fmean(scales):.2f}, standard deviation {statistics.pstdev(scales):.2f}.",
    ]
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="pictures (default 1000)")
    parser.add_argument("--model", metavar="FOLDER", help="another checkpoint than the bundled one")
    parser.add_argument("--activation-bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--kv-bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--state", type=Path, default=Path("build/evaluate_demo.jsonl"), help="answers so far")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to as well")
    options = parser.parse_args()

    options.state.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.state.read_text().splitlines()] if options.state.exists() else []
    known = {line["seed"] for line in done}
    engine = hypervl_engine.load(options.model, activation_bits=options.activation_bits, kv_bits=options.kv_bits)
    seeds = range(FIRST_SEED, FIRST_SEED + options.count)
    with options.state.open("a") as state:
        for seed in tqdm([s for s in seeds if s not in known], desc="pictures"):
            done.append(evaluate_one(engine, seed))
            state.write(json.dumps(done[-1]) + "\n")
    text = report([line for line in done if line["seed"] in seeds])
    print(text)
    if options.out:
        command = f"python tools/evaluate_demo.py --count {options.count}"
        head = f"# The demo model on {options.count} held-out pictures\n\nMade by `{command}`.\n\n"
        options.out.write_text(head + text + "\n")


if __name__ == "__main__":
    main()

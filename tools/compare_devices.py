"""The demo's answers on device "hexagon-ref" (integers throughout) beside the CPU's, on held-out pictures.

    python -m tools.compare_devices --count 1000 --out docs/integer_demo.md

Every picture is asked all of its questions, at the automatic scale, in both branches, in three settings: the CPU as it is by default,
the CPU with 8-bit keys and values in the language model (which the integer arithmetic has everywhere), and hexagon-ref. Resumable:
answers are kept in a JSON-lines file (--state), one line a picture, and are not asked for again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import hypervl_engine
from hypervl_engine.demo import render
from tqdm import tqdm

from tools.evaluate_demo import FIRST_SEED

BRANCHES = ("large", "base")
CPU, CPU_KV8, INTEGER = "cpu", "cpu, 8-bit KV cache", "hexagon-ref"
SETTINGS: dict[str, dict[str, Any]] = {CPU: {}, CPU_KV8: {"kv_bits": 8}, INTEGER: {"device": "hexagon-ref"}}


def ask(engines: dict[str, hypervl_engine.Engine], seed: int) -> dict[str, Any]:
    """What every setting answers about the picture of a seed: answers[branch][setting], a text a question."""
    sample = render.sample(seed, split="heldout")
    answers: dict[str, dict[str, list[str]]] = {branch: {} for branch in BRANCHES}
    for branch in BRANCHES:
        for name, engine in engines.items():
            answers[branch][name] = [
                engine.generate(sample.image, q.question, branch=branch, max_new_tokens=24).text.strip() for q in sample.questions
            ]
    return {"seed": seed, "expected": [q.answer for q in sample.questions], "answers": answers}


def report(lines: list[dict[str, Any]], bits: int) -> str:
    """The Markdown table and the sentence on what was compared."""
    out = [
        f"| A{bits}, branch | questions | " + " | ".join(f"{name}: right" for name in SETTINGS)
        + f" | {INTEGER} answers as {CPU} | as {CPU_KV8} | {CPU_KV8} as {CPU} |",
        "| --- |" + " ---: |" * (len(SETTINGS) + 4),
    ]  # fmt: skip
    for branch in BRANCHES:
        found: dict[str, list[str]] = {name: [t for line in lines for t in line["answers"][branch][name]] for name in SETTINGS}
        expected = [answer for line in lines for answer in line["expected"]]

        def share(a: list[str], b: list[str]) -> str:
            return f"{100 * sum(x == y for x, y in zip(a, b, strict=True)) / len(a):.2f} %"

        right = [share(found[name], expected) for name in SETTINGS]
        same = [share(found[INTEGER], found[CPU]), share(found[INTEGER], found[CPU_KV8]), share(found[CPU_KV8], found[CPU])]
        out.append(f"| {branch} | {len(expected)} | " + " | ".join(right + same) + " |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="pictures (default 1000)")
    parser.add_argument("--activation-bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--threads", type=int, help="default: the physical cores this process may use")
    parser.add_argument("--state", type=Path, help="answers so far (default build/compare_devices_aBITS.jsonl)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to as well")
    options = parser.parse_args()

    bits = options.activation_bits
    path = options.state or Path(f"build/compare_devices_a{bits}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {line["seed"] for line in done}
    engines = {
        name: hypervl_engine.load(activation_bits=bits, threads=options.threads, **extra) for name, extra in SETTINGS.items()
    }
    seeds = range(FIRST_SEED, FIRST_SEED + options.count)
    with path.open("a") as state:
        for seed in tqdm([s for s in seeds if s not in known], desc="pictures"):
            done.append(ask(engines, seed))
            state.write(json.dumps(done[-1]) + "\n")
            state.flush()
    text = report([line for line in done if line["seed"] in seeds], bits)
    print(text)
    if options.out:
        command = f"python -m tools.compare_devices --count {options.count}" + (" --activation-bits 8" if bits == 8 else "")
        head = f"# The demo model in integers, on {options.count} held-out pictures\n\nMade by `{command}`.\n"
        options.out.write_text(f"{head}\n{text}\n")


if __name__ == "__main__":
    main()

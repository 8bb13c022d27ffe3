"""Held-out questions of the demo, answered on "hexagon-sim" and on "hexagon-ref": the tokens must be the same.

    python -m tools.hexagon.compare_questions --count 100 --out docs/hexagon_demo.md

"hexagon-sim" runs the Plans of the spec hexagon-v73 with one thread, so that every operand goes through fast memory and packets are exact.
Exit code 1 where a token differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypervl_engine.demo import render
from hypervl_engine.engine import load
from tqdm import tqdm

from tools.evaluate_demo import FIRST_SEED

SPEC = "hexagon-v73"


def questions(count: int) -> Iterator[tuple[str, Any, str, str]]:
    """Branch, picture, question and right answer; the branches in turn."""
    given = 0
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        sample = render.sample(seed, split="heldout")
        for asked in sample.questions:
            if given == count:
                return
            yield ("large", "base")[given % 2], sample.image, asked.question, asked.answer
            given += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="questions (default 100)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the result to as well")
    options = parser.parse_args()

    emulated = load(device="hexagon-sim", spec=SPEC, threads=1, progress=False)
    reference = load(device="hexagon-ref", progress=False)
    same = right = tokens = moved = peak = 0
    runs: Counter[str] = Counter()
    packets: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    for branch, image, question, answer in tqdm(list(questions(options.count)), desc="questions"):
        ours, expected = (engine.generate(image, question, branch=branch, max_new_tokens=24) for engine in (emulated, reference))
        same += ours.tokens == expected.tokens
        right += ours.text.strip() == answer
        tokens += len(ours.tokens)
        stats = emulated.stats
        moved += stats["transferred_in_bytes"] + stats["transferred_out_bytes"]
        peak = max(peak, stats["fast_peak_bytes"])
        for name, counts in stats["programs"].items():
            runs[name] += counts["runs"]
            packets[name] += counts["packets"]
            for op in counts["ops"]:
                by_kind[op["kind"]] += op["packets"]
    text = [
        f"{same} of {options.count} questions have the same tokens ({tokens} in all) on `hexagon-sim` as on `hexagon-ref`;",
        f"{right} are answered right. Plans for `{SPEC}`: {peak / 1024:.0f} KiB of fast memory written at most,",
        f"{moved / options.count / 2**20:.1f} MiB moved a question.",
        "",
        "| Program | runs | million packets a run |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {runs[name]} | {packets[name] / runs[name] / 1e6:.2f} |" for name in sorted(runs)),
        "",
        "| kernels | of all packets |",
        "| --- | ---: |",
        *(f"| {kind} | {count / packets.total():.1%} |" for kind, count in by_kind.most_common()),
    ]
    if options.out:
        command = f"python -m tools.hexagon.compare_questions --count {options.count}"
        head = ["# The demo on the emulated DSP program", "", f"Made by `{command}`. Emulated: packets are not cycles.", ""]
        options.out.write_text("\n".join([*head, *text]) + "\n")
    print("\n".join(text))
    return 0 if same == options.count else 1


if __name__ == "__main__":
    sys.exit(main())

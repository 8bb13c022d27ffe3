"""Draws the demo's bundled pictures: `python -m tools.demo_images`. Run again after training a new demo model.

For every family one small and one large held-out picture: the first, in the order of seeds, that the demo model
answers right at automatic scale and whose PNG is not too big. They show what the model does when it works; how often it
works is what tools/train/measure.py measures and the README says.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from hypervl_engine import Engine, load
from hypervl_engine.demo import ask
from hypervl_engine.demo.render import FAMILIES, sample
from tqdm import tqdm

SIDES = {"small": (64, 160), "large": (256, 512)}
QUESTIONS = 2
MAX_BYTES = 256 << 10
FIRST_SEED = 900_000


def find(engine: Engine, family: str, sides: tuple[int, int], bar: tqdm) -> tuple[bytes, list[ask.Item]]:
    """The first fitting picture's PNG with its questions."""
    seed = FIRST_SEED
    while True:
        bar.update()
        drawn = sample(seed, split="heldout", family=family)
        seed += 1
        if not sides[0] <= max(drawn.image.size) <= sides[1]:
            continue
        out = io.BytesIO()
        drawn.image.save(out, "PNG")
        if out.tell() > MAX_BYTES:
            continue
        pixels = np.asarray(drawn.image)
        items = [ask.Item("", pixels, q.question, q.answer, family) for q in drawn.questions[:QUESTIONS]]
        if all(answered.right for answered in ask.ask(engine, items)):
            return out.getvalue(), items


def main() -> None:
    """Writes the pictures and questions.json, by default into the package."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_images", description=__doc__)
    parser.add_argument("--model", metavar="FOLDER", help="checkpoint (default: the demo model)")
    parser.add_argument("--output", type=Path, default=ask.FOLDER, metavar="FOLDER")
    options = parser.parse_args()
    engine, folder = load(options.model), options.output
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    entries = []
    with tqdm(desc="pictures tried") as bar:
        for family in FAMILIES:
            for size, sides in SIDES.items():
                png, items = find(engine, family, sides, bar)
                name = f"{family}-{size}.png"
                (folder / name).write_bytes(png)
                entries += [
                    {"image": name, "question": item.question, "answer": item.answer, "family": family}
                    for item in items
                ]
    (folder / "questions.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()

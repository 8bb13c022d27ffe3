"""Asks the demo's questions and shows each answer beside the expected one, with what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import Engine
from ..generation import Result
from ..prompt import Scale

FOLDER = Path(__file__).parent / "images"
FRESH_IMAGES = 24
FRESH_SHARE = 0.75
_MAX_NEW_TOKENS = 16


@dataclass(frozen=True)
class Item:
    """One question about one picture."""

    name: str
    image: Any
    question: str
    answer: str
    family: str


@dataclass(frozen=True)
class Answered:
    """What the engine said about an item."""

    item: Item
    result: Result

    @property
    def right(self) -> bool:
        return self.result.text.strip() == self.item.answer


def bundled(folder: Path = FOLDER) -> list[Item]:
    """The pictures that ship with the package; questions.json beside them says what is asked."""
    entries = json.loads((folder / "questions.json").read_text("utf-8"))
    return [Item(e["image"], folder / e["image"], e["question"], e["answer"], e["family"]) for e in entries]


def fresh(seed: int, count: int = FRESH_IMAGES) -> list[Item]:
    """Held-out pictures never drawn before, one question each; the same seed gives the same ones."""
    from .render import FAMILIES, sample

    items = []
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        drawn = sample(seed * 1_000_003 + number, split="heldout", family=family)
        question = drawn.questions[0]
        items.append(Item(f"{family}-{number}", drawn.image, question.question, question.answer, question.family))
    return items


def ask(engine: Engine, items: Iterable[Item], branch: str | None = None, scale: Scale = "auto") -> Iterator[Answered]:
    """Answers one after another, always the likeliest token."""
    for item in items:
        result = engine.generate(
            item.image, item.question, branch=branch, scale=scale, max_new_tokens=_MAX_NEW_TOKENS, temperature=0.0
        )
        yield Answered(item, result)


def line(answered: Answered) -> str:
    """Two lines for people: what was asked and answered, and what it cost."""
    item, result = answered.item, answered.result
    stats = result.stats
    verdict = "ok   " if answered.right else "WRONG"
    scale = "-" if stats.scale is None else f"{stats.scale:.2f}"
    return (
        f"{verdict} {item.name}: {item.question}  ->  {result.text.strip()}  (expected {item.answer})\n"
        f"      {stats.branch}, scale {scale}, {stats.tiles} tiles, {stats.visual_tokens} visual tokens | "
        f"ms: vrc {stats.vrc_ms:.2f}, preprocess {stats.preprocess_ms:.2f}, encode {stats.encode_ms:.2f}, "
        f"project {stats.project_ms:.2f}, prefill {stats.prefill_ms:.2f}, decode {stats.decode_ms:.2f} | "
        f"{stats.decode_tok_s:.0f} tokens/s | arena peak {stats.arena_bytes:,} bytes"
    )

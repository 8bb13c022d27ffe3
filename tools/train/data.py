"""Training batches: pictures of one padded size, rendered on the fly, a pure function of (seed, step).

All pictures of a batch share the padded size ("bucket"), so that tiles and visual tokens need no padding. A picture
of a bucket is laid out in design pixels, drawn `zoom` times larger and shrunk again: the net magnification `e` is what
the branch sees, about 1 in training because that is what the resolution compressor aims at.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from tools.train import preprocess, tokenizer


def _load_render() -> Any:
    """The renderer, by its file: importing the package would need the compiled engine."""
    path = Path(__file__).resolve().parents[2] / "python/hypervl_engine/demo/render.py"
    spec = importlib.util.spec_from_file_location("hypervl_demo_render", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


render = _load_render()
CLASS_ID = {name: i for i, name in enumerate(render.CLASSES)}
MAX_INDEX = 8


@dataclass(frozen=True)
class Mix:
    """What a stage's batches are made of."""

    widths: dict[int, float]
    heights: dict[int, float]
    families: dict[str, float]
    ease: tuple[float, float] = (0.0, 0.0)
    magnify: tuple[float, float] = (0.8, 1.35)
    tokens: int = 3072
    text: int = 80
    ocr: float = 0.35
    large: float = 0.0


@dataclass
class Turns:
    """Token ids of the text after the image, which of them are answers, and how much each of those counts."""

    ids: list[int]
    answer: list[bool]
    weight: list[float]
    first_end: int = 0


class Chat:
    """Builds the token sequence of a conversation about one picture."""

    def __init__(self) -> None:
        tok = tokenizer.build()
        self.tok = tok
        enc = lambda s: tok.encode(s, add_special_tokens=False).ids  # noqa: E731
        self.encode = enc
        self.prefix = enc("<|im_start|>user\n<|vision_start|>")
        self.end = tok.token_to_id("<|im_end|>")
        self.pad = tok.token_to_id("<|endoftext|>")
        self.tile_separator, self.row_separator = tok.token_to_id("<|tile|>"), tok.token_to_id("<|row|>")
        self.newline = enc("\n")

    def turns(self, questions: list[Any], limit: int) -> Turns:
        """As many question turns as fit into `limit` tokens; at least one."""
        out = Turns([], [], [])
        for i, q in enumerate(questions):
            opening = "<|vision_end|>" if i == 0 else "\n<|im_start|>user\n"
            asked = self.encode(f"{opening}{q.question}<|im_end|>\n<|im_start|>assistant\n")
            answer = [*self.encode(q.answer), self.end]
            if i and len(out.ids) + len(asked) + len(answer) > limit:
                break
            out.ids += asked + answer
            out.answer += [False] * len(asked) + [True] * len(answer)
            each = len(answer) ** -0.5  # short answers (counts, names) would drown among long ones
            out.weight += [0.0] * len(asked) + [each] * (len(answer) - 1) + [each * 0.3]
            out.first_end = out.first_end or len(out.ids)
        return out


def patch_targets(sample: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For every 8-px patch of the scaled, padded picture: the class of the mark centred there (0: none), its index."""
    p = 8
    rows, cols = preprocess.padded(size[1]) // p, preprocess.padded(size[0]) // p
    label, index = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.int64)
    sx, sy = size[0] / sample.image.width, size[1] / sample.image.height
    for mark in sorted(sample.marks, key=lambda m: m.box[2] - m.box[0]):
        x, y = (mark.box[0] + mark.box[2]) / 2 * sx, (mark.box[1] + mark.box[3]) / 2 * sy
        row, col = min(rows - 1, max(0, int(y / p))), min(cols - 1, max(0, int(x / p)))
        label[row, col], index[row, col] = CLASS_ID[mark.label], min(mark.index, MAX_INDEX - 1)
    return label, index


def _draw(rng: np.random.Generator, weights: dict[Any, float]) -> Any:
    keys = list(weights)
    p = np.array([weights[k] for k in keys])
    return keys[int(rng.choice(len(keys), p=p / p.sum()))]


def _element(rng: np.random.Generator, mix: Mix, bucket: tuple[int, int], split: str,
             ease: float) -> tuple[Any, tuple[int, int]]:
    """One picture for the bucket and the size to shrink it to."""
    family = _draw(rng, mix.families)
    size = (bucket[0] - int(rng.integers(0, 16)), bucket[1] - int(rng.integers(0, 16)))
    low, high = mix.magnify
    if family == "shapes":
        low *= 0.6
    if max(bucket) > 192:
        low, high = 1.0, 3.5
    e = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    least = 104 if family == "receipt" else 72 if family == "label" else 64
    e = min(e, size[0] / least, size[1] / 56)
    width, height = size[0] / e, size[1] / e
    e *= max(1.0, width / 208, height / 160)  # keep to what natural pictures look like
    zoom = max(e, 1.0) if rng.random() < 0.5 else max(e, 1.0) * float(rng.uniform(1, 2.5))
    zoom = max(e, min(zoom, render.MAX_SIDE / (size[0] / e), render.MAX_SIDE / (size[1] / e)))
    seed = int(rng.integers(1 << 48))
    return render.sample(seed, split, family, layout=(size[0] / e, size[1] / e, zoom), ease=ease), size


def make_batch(chat: Chat, mix: Mix, seed: int, step: int, split: str = "train",
               single: bool = False) -> dict[str, Any]:
    """The batch of a step. single: one question a picture (evaluation)."""
    rng = np.random.default_rng([seed, step, 1 if split == "heldout" else 0])
    bucket = (_draw(rng, mix.widths), _draw(rng, mix.heights))
    if rng.random() < mix.large:
        bucket = [(256, 128), (256, 192), (256, 256), (320, 192), (384, 256)][int(rng.integers(5))]
    count = preprocess.visual_tokens(*bucket) + 60
    batch = max(4, min(96, round(mix.tokens * 2 / count / 8) * 8))
    pixels, labels, indices, turns, meta = [], [], [], [], []
    for _ in range(batch):
        ease = float(rng.uniform(*mix.ease))
        picture, size = _element(rng, mix, bucket, split, ease)
        questions = picture.questions
        if single:
            questions = questions[:1]
        elif picture.lines and rng.random() < mix.ocr:
            ocr = render.Question("read the text.", " ".join(picture.lines), "ocr", picture.family)
            questions = list(questions)
            questions.insert(0 if rng.random() < 0.5 else 1, ocr)
        pixels.append(preprocess.pixel_values(picture.image, size))
        label, index = patch_targets(picture, size)
        labels.append(label)
        indices.append(index)
        turns.append(chat.turns(questions, mix.text))
        meta.append((picture.family, questions[0].kind))
    length = max(len(t.ids) for t in turns)
    ids = np.full((batch, length), chat.pad, np.int64)
    answer = np.zeros((batch, length), bool)
    weight = np.zeros((batch, length), np.float32)
    for i, t in enumerate(turns):
        ids[i, : len(t.ids)], answer[i, : len(t.ids)], weight[i, : len(t.ids)] = t.ids, t.answer, t.weight
    return {"pixels": torch.from_numpy(np.stack(pixels)), "label": torch.from_numpy(np.stack(labels)),
            "index": torch.from_numpy(np.stack(indices)), "ids": torch.from_numpy(ids),
            "answer": torch.from_numpy(answer), "weight": torch.from_numpy(weight), "meta": meta}


class Batches(IterableDataset):  # type: ignore[type-arg]
    """Batches from a step on, for a DataLoader with one worker."""

    def __init__(self, mix: Mix, seed: int, start: int) -> None:
        self.mix, self.seed, self.start = mix, seed, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        torch.set_num_threads(1)
        chat, step = Chat(), self.start
        while True:
            yield make_batch(chat, self.mix, self.seed, step)
            step += 1

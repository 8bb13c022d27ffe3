"""Seeded pictures with questions: the demo model's world, for training, evaluation and `make demo SEED=...`.

Needs numpy and Pillow only. A picture is laid out in *design* pixels, in which the smallest print is about 18 px high,
and drawn `zoom` times larger. Pictures of zoom 1 need full resolution; pictures of zoom 3 can be shrunk to a third.

The held-out split is disjoint twice: its random streams are its own, and every printed string that can be asked for
(words, numbers, prices) is held out by hash, so that no answer read from a held-out picture was ever seen in training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Split = Literal["train", "heldout"]
FAMILIES = ("receipt", "label", "shapes", "bars")
SHAPES = ("circle", "square", "triangle", "star")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 36), "green": (30, 150, 60), "blue": (36, 72, 214),
    "yellow": (238, 214, 24), "purple": (142, 40, 170), "orange": (248, 134, 12),
}
GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789."
CLASSES = ("", *GLYPHS, *(f"{s}/{c}" for s in SHAPES for c in COLOURS), "bar")
MIN_SIDE, MAX_SIDE = 64, 512
MIN_FONT, MAX_FONT = 18.0, 28.0
HELDOUT_ONE_IN = 8


@dataclass(frozen=True)
class Question:
    """One question with its exact answer; kind is "read", "count" or "name" ("ocr" only in training)."""

    question: str
    answer: str
    kind: str
    family: str


@dataclass(frozen=True)
class Mark:
    """Where something is: its class in CLASSES, its box in picture pixels, its place in its string (0 first)."""

    label: str
    box: tuple[float, float, float, float]
    index: int


@dataclass
class Sample:
    """A picture, what can be asked about it, and where everything is (for dense supervision)."""

    image: Image.Image
    questions: list[Question]
    marks: list[Mark]
    family: str
    zoom: float
    lines: list[str] = field(default_factory=list)


def is_heldout_string(text: str) -> bool:
    """True when a printed string belongs to the held-out split (one in HELDOUT_ONE_IN, by hash)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % HELDOUT_ONE_IN == 0


@lru_cache(maxsize=256)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _width(text: str, size: int = 64) -> float:
    """Width of a text per pixel of font size."""
    return float(_font(size).getlength(text)) / size


class _Page:
    """A canvas in design pixels, drawn zoom times larger."""

    def __init__(self, rng: np.random.Generator, width: float, height: float, zoom: float) -> None:
        self.rng, self.zoom, self.width, self.height = rng, zoom, width, height
        dark = rng.random() < 0.25
        self.paper = tuple(int(v) for v in (rng.integers(8, 56, 3) if dark else rng.integers(214, 256, 3)))
        self.ink = tuple(int(v) for v in (rng.integers(190, 256, 3) if dark else rng.integers(0, 90, 3)))
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        self.image = Image.new("RGB", size, self.paper)
        self.draw = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []
        self.lines: list[str] = []

    def text(self, text: str, x: float, y: float, size: float, ink: tuple[int, ...] | None = None) -> None:
        """Print with the top left of the capitals at (x, y)."""
        px = max(6, round(size * self.zoom))
        font = _font(px)
        top, bottom = font.getbbox("H")[1], font.getbbox("H")[3]
        left, upper = x * self.zoom, y * self.zoom
        self.draw.text((round(left), round(upper - top)), text, font=font, fill=ink or self.ink)
        ends = [font.getlength(text[:i]) for i in range(len(text) + 1)]
        for i, char in enumerate(text):
            if char in GLYPHS:
                box = (left + ends[i], upper, left + ends[i + 1], upper + bottom - top)
                self.marks.append(Mark(char, box, i))

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, ...]) -> None:
        self.draw.polygon([(x * self.zoom, y * self.zoom) for x, y in points], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...], round_: bool = False) -> None:
        draw = self.draw.ellipse if round_ else self.draw.rectangle
        draw([x0 * self.zoom, y0 * self.zoom, x1 * self.zoom, y1 * self.zoom], fill=fill)

    def mark(self, label: str, x0: float, y0: float, x1: float, y1: float) -> None:
        z = self.zoom
        self.marks.append(Mark(label, (x0 * z, y0 * z, x1 * z, y1 * z), 0))

    def finish(self) -> Image.Image:
        sigma = float(self.rng.uniform(0, 5))
        pixels = np.asarray(self.image).astype(np.float32)
        pixels += self.rng.standard_normal(pixels.shape, dtype=np.float32) * sigma
        return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def _word(rng: np.random.Generator, split: Split, low: int, high: int) -> str:
    """A made-up word of the split: consonants and vowels in turn, or letters at random."""
    while True:
        length = int(rng.integers(low, high + 1))
        if rng.random() < 0.5:
            start = int(rng.integers(2))
            word = "".join(str(rng.choice(list("AEIOU" if (i + start) % 2 else "BCDFGHJKLMNPQRSTVWXYZ")))
                           for i in range(length))
        else:
            word = "".join(chr(65 + int(v)) for v in rng.integers(0, 26, length))
        if is_heldout_string(word) == (split == "heldout"):
            return word


def _number(rng: np.random.Generator, split: Split, low: int, high: int) -> str:
    while True:
        text = str(int(rng.integers(low, high)))
        if is_heldout_string(text) == (split == "heldout"):
            return text


def _font_size(rng: np.random.Generator, limit: float, ease: float) -> float:
    """Between MIN_FONT and the limit; an easy picture has large print."""
    limit = max(MIN_FONT, min(limit, MAX_FONT))
    return float(rng.uniform(MIN_FONT + 0.7 * ease * (limit - MIN_FONT), limit))


def _label(page: _Page, split: Split, ease: float) -> list[Question]:
    """A word and a number, one under the other."""
    rng = page.rng
    word = _word(rng, split, 3, 4 if ease > 0.5 else 5)
    number = _number(rng, split, 100, 1000 if ease > 0.5 or rng.random() < 0.3 else 10000)
    rows = [("word", word), ("number", number)]
    if rng.random() < 0.3:
        rows.reverse()
    y = float(rng.uniform(3, 8))
    for i, (_, text) in enumerate(rows):
        left_rows = len(rows) - i
        limit = min((page.width - 8) / _width(text), (page.height - 4 - y) / left_rows / 0.95)
        size = _font_size(rng, limit, ease)
        x = float(rng.uniform(3, max(3.5, page.width - 4 - _width(text) * size)))
        page.text(text, x, y, size)
        page.lines.append(text)
        slack = page.height - y - size * 0.9 - (left_rows - 1) * MIN_FONT
        y += size * 0.9 + float(rng.uniform(1, max(1.5, slack / max(1, left_rows))))
    return [Question("what does the label say?", word, "read", "label"),
            Question("what is the number?", number, "read", "label")]


def _receipt(page: _Page, split: Split, ease: float) -> list[Question]:
    """Items with prices that add up to the printed total."""
    rng = page.rng
    most = max(1, int((page.height - 6) / (MIN_FONT * 1.12)) - 1)
    count = int(rng.integers(1, 1 + max(1, min(most, 2 if ease > 0.5 else 3))))
    decimals = rng.random() < 0.4 and page.width >= 116
    names: list[str] = []
    while len(names) < count:
        name = _word(rng, split, 3, 3 if page.width < 114 else 4)
        if name not in names:
            names.append(name)

    def shown(value: int) -> str:
        return f"{value // 100}.{value % 100:02d}" if decimals else str(value)

    while True:
        high = min(1000, 999 // count) if not decimals else 1000
        values = [int(v) for v in rng.integers(100, max(101, high), count)] if count < 9 else []
        texts = [shown(v) for v in values]
        total = shown(sum(values))
        if all(is_heldout_string(t) == (split == "heldout") for t in [*texts, total]):
            break
    rows = [*zip(names, texts, strict=True), ("TOTAL", total)]
    widest = max(_width(a) + _width(b) for a, b in rows) + 0.5
    limit = min((page.width - 7) / widest, (page.height - 6) / len(rows) / 1.12, 26.0)
    size = _font_size(rng, limit, ease)
    pitch = float(rng.uniform(size * 1.08, max(size * 1.09, min(size * 1.6, (page.height - 6) / len(rows)))))
    y = float(rng.uniform(3, max(3.5, page.height - pitch * len(rows))))
    x = float(rng.uniform(2, 4))
    right = page.width - float(rng.uniform(2, 4))
    if rng.random() < 0.4:
        right = min(right, x + widest * size + float(rng.uniform(0, 12)))
    for name, text in rows:
        if name == "TOTAL" and rng.random() < 0.4:
            page.box(x, y - size * 0.17, right, y - size * 0.1, page.ink)
        page.text(name, x, y, size)
        page.text(text, right - _width(text) * size, y, size)
        page.lines.append(f"{name} {text}")
        y += pitch
    questions = [Question("what is the total?", total, "read", "receipt")]
    questions += [Question(f"how much is the {n}?", t, "read", "receipt") for n, t in rows[:-1]]
    return questions


def _shape(page: _Page, shape: str, colour: str, x: float, y: float, r: float) -> None:
    """One shape of radius r centred at (x, y)."""
    fill = COLOURS[colour]
    if shape == "circle":
        page.box(x - r, y - r, x + r, y + r, fill, round_=True)
    elif shape == "square":
        page.box(x - r * 0.86, y - r * 0.86, x + r * 0.86, y + r * 0.86, fill)
    elif shape == "triangle":
        page.polygon([(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)], fill)
    else:
        angles = [-np.pi / 2 + np.pi * i / 5 for i in range(10)]
        radii = [r * 1.1 if i % 2 == 0 else r * 0.5 for i in range(10)]
        page.polygon([(x + q * np.cos(a), y + q * np.sin(a)) for a, q in zip(angles, radii, strict=True)], fill)
    page.mark(f"{shape}/{colour}", x - r, y - r, x + r, y + r)


def _shapes(page: _Page, split: Split, ease: float) -> list[Question]:
    """Up to five coloured shapes to count and to name."""
    rng = page.rng
    cols, rows = max(2, int(page.width / 34)), max(2, int(page.height / 34))
    count = int(rng.integers(1, 1 + min(5, cols * rows)))
    cells = rng.permutation(cols * rows)[:count]
    cw, ch = page.width / cols, page.height / rows
    kinds = [SHAPES[int(i)] for i in rng.permutation(4)[: int(rng.integers(1, 5))]]
    hues = [list(COLOURS)[int(i)] for i in rng.permutation(6)[: int(rng.integers(1, 5))]]
    things: list[tuple[str, str]] = []
    for cell in cells:
        r = float(rng.uniform(0.3, 0.46)) * min(cw, ch)
        shape, colour = str(rng.choice(kinds)), str(rng.choice(hues))
        x = (cell % cols + 0.5) * cw + float(rng.uniform(-1, 1)) * (cw / 2 - r) * 0.85
        y = (cell // cols + 0.5) * ch + float(rng.uniform(-1, 1)) * (ch / 2 - r) * 0.85
        _shape(page, shape, colour, x, y, r)
        things.append((shape, colour))
    shapes, colours = [t[0] for t in things], [t[1] for t in things]
    questions = [Question("how many shapes?", str(count), "count", "shapes")]
    asked = set(shapes) | {str(rng.choice(SHAPES))}
    questions += [Question(f"how many {s}s?", str(shapes.count(s)), "count", "shapes") for s in sorted(asked)]
    asked = set(colours) | ({str(rng.choice(list(COLOURS)))} if rng.random() < 0.5 else set())
    questions += [Question(f"how many {c} shapes?", str(colours.count(c)), "count", "shapes") for c in sorted(asked)]
    for shape, colour in things:
        if shapes.count(shape) == 1:
            questions.append(Question(f"what colour is the {shape}?", colour, "name", "shapes"))
        if colours.count(colour) == 1:
            questions.append(Question(f"what shape is {colour}?", shape, "name", "shapes"))
    return questions


def _bars(page: _Page, split: Split, ease: float) -> list[Question]:
    """A bar chart: a letter under every bar, its value above it."""
    rng = page.rng
    size = _font_size(rng, min(22.0, page.height / 5, (page.width - 6) / 3), ease)
    most = int((page.width - 6) / (size * 1.45))
    count = int(rng.integers(2, 1 + max(2, min(most, 5))))
    while True:
        values = [int(_number(rng, split, 10, 100)) for _ in range(count)]
        ordered = sorted(values)
        if len(set(values)) == count and ordered[-1] - ordered[-2] >= 6:
            break
    pitch = (page.width - 6) / count
    pitch = float(rng.uniform(min(pitch, max(size * 1.4, pitch * 0.7)), pitch))
    x0 = float(rng.uniform(3, max(3.5, page.width - 3 - pitch * count)))
    floor = page.height - size * 0.95 - 3
    unit = (floor - size * 0.95 - 4) / 100
    hues = [list(COLOURS)[int(i)] for i in rng.permutation(6)]
    same = rng.random() < 0.5
    for i, value in enumerate(values):
        centre = x0 + pitch * (i + 0.5)
        half = pitch * float(rng.uniform(0.28, 0.4))
        top = floor - max(1.5, value * unit)
        page.box(centre - half, top, centre + half, floor, COLOURS[hues[0 if same else i]])
        page.mark("bar", centre - half, top, centre + half, top + 4)
        page.text(chr(65 + i), centre - _width(chr(65 + i)) * size / 2, floor + size * 0.15, size)
        page.text(str(value), centre - _width(str(value)) * size / 2, top - size * 0.85, size)
    page.lines += [" ".join(str(v) for v in values), " ".join(chr(65 + i) for i in range(count))]
    questions = [Question("which bar is tallest?", chr(65 + values.index(max(values))), "name", "bars"),
                 Question("how many bars?", str(count), "count", "bars")]
    questions += [Question(f"what is the value of bar {chr(65 + i)}?", str(v), "read", "bars")
                  for i, v in enumerate(values)]
    return questions


_DRAW = {"receipt": _receipt, "label": _label, "shapes": _shapes, "bars": _bars}


def draw_layout(rng: np.random.Generator) -> tuple[float, float, float]:
    """Width and height in design pixels and the zoom of one natural picture."""
    width = float(rng.integers(104, 129) if rng.random() < 0.9 else rng.integers(129, 193))
    height = float(rng.integers(64, 129))
    zoom = 1.0 if rng.random() < 0.35 else float(np.exp(rng.uniform(0, np.log(4.0))))
    return width, height, min(zoom, MAX_SIDE / max(width, height))


def sample(seed: int, split: Split = "train", family: str | None = None, *,
           layout: tuple[float, float, float] | None = None, ease: float = 0.0) -> Sample:
    """The picture of a seed: the same seed, split and arguments give the same picture on every machine.

    family: one of FAMILIES, or None for any. layout: (width, height, zoom) in design pixels in place of a natural one.
    ease: 0 for the real task, towards 1 for larger print and shorter strings (training's first steps).
    """
    rng = np.random.default_rng([seed, 1 if split == "heldout" else 0, 20251214])
    chosen = family or FAMILIES[int(rng.integers(len(FAMILIES)))]
    width, height, zoom = layout or draw_layout(rng)
    page = _Page(rng, width, height, zoom)
    questions = _DRAW[chosen](page, split, ease)
    order = rng.permutation(len(questions))
    image = page.finish()
    return Sample(image, [questions[int(i)] for i in order], page.marks, chosen, zoom, page.lines)

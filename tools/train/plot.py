"""Draw curve.csv as curve.png with Pillow alone: held-out exact answers by branch and family over the steps."""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LINES = {"all": (20, 20, 20), "receipt": (214, 32, 36), "label": (36, 72, 214), "shapes": (30, 150, 60),
         "bars": (232, 126, 12)}
WIDTH, HEIGHT, LEFT, TOP = 520, 360, 44, 34


def draw(rows: list[dict[str, str]]) -> Image.Image:
    """One panel a branch: per cent exact against steps."""
    branches = sorted({k.split("/")[0] for k in rows[0] if k.endswith("/all")})
    image = Image.new("RGB", (WIDTH * len(branches), HEIGHT), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    last = max(int(r["step"]) for r in rows)
    for panel, branch in enumerate(branches):
        x0, x1 = panel * WIDTH + LEFT, (panel + 1) * WIDTH - 14
        y0, y1 = HEIGHT - 30, TOP
        for percent in range(0, 101, 20):
            y = y0 + (y1 - y0) * percent / 100
            pen.line([(x0, y), (x1, y)], fill=(225, 225, 225))
            pen.text((x0 - 30, y - 7), str(percent), fill=(90, 90, 90), font=font)
        pen.text((x0, 6), f"{branch}: held-out answers exact, %", fill=(20, 20, 20), font=font)
        pen.text((x1 - 80, y0 + 8), f"{last} steps", fill=(90, 90, 90), font=font)
        for i, (name, colour) in enumerate(LINES.items()):
            points = [(x0 + (x1 - x0) * int(r["step"]) / last, y0 + (y1 - y0) * float(r[f"{branch}/{name}"]) / 100)
                      for r in rows if r.get(f"{branch}/{name}")]
            if len(points) > 1:
                pen.line(points, fill=colour, width=2)
            pen.text((x0 + 60 * i, 20), name, fill=colour, font=font)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=os.environ.get("HVL_TRAIN_DIR", "train-out"))
    folder = Path(parser.parse_args().dir)
    with (folder / "curve.csv").open(newline="") as file:
        draw(list(csv.DictReader(file))).save(folder / "curve.png")


if __name__ == "__main__":
    main()

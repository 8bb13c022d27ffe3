"""Label pictures with the smallest scale that keeps the answers' loss, then train the VRC on them.

`python -m tools.train.train_vrc label --count 3000` (resumable, appends shards), then `... fit`.

Label: over a coarse ladder of scales, the smallest from which on (up to the best scale) the loss stays within
`tolerance` of the best loss. The reference is the best loss and not the one at 1.0: a picture drawn four times larger
than needed may well read worse at full size, and then the compressor must not be told that full size is fine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.train import preprocess
from tools.train.data import Chat, render
from tools.train.measure import answer_all, load_model
from tools.train.vrc import Vrc, VrcConfig, fit, thumbnail

LADDER = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)
MOST_TOKENS = 260


def losses(args: argparse.Namespace) -> None:
    """Answer losses of training pictures at every scale of the ladder, both branches averaged."""
    folder, chat = Path(args.dir), Chat()
    model = load_model(folder / args.state, True)
    done, shard = 0, 64
    while done < args.count:
        path = folder / f"vrc-{args.seed}-{done:06d}.json"
        if not path.exists():
            began = time.time()
            seeds = [args.seed * 10_000_019 + done + i for i in range(shard)]
            samples = [render.sample(s) for s in seeds]
            jobs: list[tuple[Any, float, int]] = []
            for i, s in enumerate(samples):
                for scale in LADDER:
                    w, h = preprocess.scaled_size(*s.image.size, scale)
                    e = s.zoom * scale
                    if preprocess.visual_tokens(w, h) <= MOST_TOKENS and 0.3 <= e <= 1.7:
                        jobs.append((s, scale, i))
            rows = [dict[str, list[float]]() for _ in samples]
            branches = ["large", "base"] if args.both else ["large"]
            for branch in branches:
                for (_, scale, i), (loss, _) in zip(jobs, answer_all(model, chat, branch, jobs, text=60), strict=True):
                    rows[i].setdefault(str(scale), []).append(round(loss, 5))
            path.write_text(json.dumps([{"seed": seed, "loss": row} for seed, row in zip(seeds, rows, strict=True)]))
            print(f"{path.name} {time.time() - began:.1f} s", flush=True)
        done += shard


def label(loss: dict[str, list[float]], tolerance: float, slack: float) -> float:
    """The smallest scale from which on the loss stays within (1 + tolerance) * best + slack, up to the best scale."""
    scales = sorted(float(k) for k in loss)
    value = {float(k): float(np.mean(v)) for k, v in loss.items()}
    best = min(scales, key=lambda s: value[s])
    limit = value[best] * (1 + tolerance) + slack
    chosen = best
    for s in reversed([s for s in scales if s < best]):
        if value[s] > limit:
            break
        chosen = s
    return chosen


def train(args: argparse.Namespace) -> None:
    """Fit the float net, fold, fit on the integer grid, save vrc.pt."""
    folder, config = Path(args.dir), VrcConfig()
    torch.manual_seed(args.seed)
    pixels, sizes, targets, kept = [], [], [], []
    for path in sorted(folder.glob("vrc-*-*.json")):
        for row in json.loads(path.read_text()):
            if len(row["loss"]) < 3:
                continue
            image = render.sample(row["seed"]).image
            pixels.append(thumbnail(image, config.image_size))
            sizes.append(image.size)
            kept.append(label(row["loss"], args.tolerance, args.slack))
            targets.append((kept[-1] - config.grid[0]) / (config.grid[-1] - config.grid[0]))
    print(f"{len(kept)} pictures, labels mean {np.mean(kept):.3f} s.d. {np.std(kept):.3f}", flush=True)
    x, s, y = torch.from_numpy(np.stack(pixels)), torch.tensor(sizes, dtype=torch.float32), torch.tensor(targets)
    hold = max(1, len(y) // 10)
    vrc = Vrc(config)
    print("float", fit(vrc, x[hold:], s[hold:], y[hold:], args.steps, 3e-3, args.quantile), flush=True)
    vrc.calibrate([(x[hold + i * 64: hold + i * 64 + 64], s[hold + i * 64: hold + i * 64 + 64]) for i in range(8)])
    print("integer", fit(vrc, x[hold:], s[hold:], y[hold:], args.steps // 3, 5e-4, args.quantile), flush=True)
    with torch.no_grad():
        error = torch.tensor(config.grid)[vrc.index(vrc(x[:hold], s[:hold]))] - torch.tensor(kept[:hold])
    print(f"held out: mean error {error.mean():+.3f}, absolute {error.abs().mean():.3f}, too small by > 0.1: "
          f"{(error < -0.1).float().mean() * 100:.1f} %", flush=True)
    torch.save(vrc.state_dict(), folder / "vrc.tmp")
    os.replace(folder / "vrc.tmp", folder / "vrc.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["label", "fit"])
    parser.add_argument("--dir", default=os.environ.get("HVL_TRAIN_DIR", "train-out"))
    parser.add_argument("--state", default="state.pt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3072)
    parser.add_argument("--both", action="store_true", help="average the loss over both branches")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tolerance", type=float, default=0.3)
    parser.add_argument("--slack", type=float, default=0.02)
    parser.add_argument("--quantile", type=float, default=0.7)
    args = parser.parse_args()
    if args.command == "label":
        losses(args)
    else:
        train(args)


if __name__ == "__main__":
    main()

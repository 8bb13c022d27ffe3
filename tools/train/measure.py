"""Held-out accuracy in torch by branch, family and kind, on natural pictures at a chosen, oracle or automatic scale.

`python -m tools.train.measure --count 400 --scale auto --quantized`. The engine's own
measurement is the one that counts; this one follows training and makes the VRC's labels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tools.train import preprocess
from tools.train.data import Chat, render
from tools.train.export import load_vrc
from tools.train.model import HyperVL, ModelConfig
from tools.train.train import forward
from tools.train.vrc import Vrc, thumbnail


def load_model(path: Path, quantized: bool) -> HyperVL:
    """The model of a training state."""
    model = HyperVL(ModelConfig())
    model.load_state_dict(torch.load(path, weights_only=False)["model"])
    model.set_quantized(quantized)
    return model.eval()


@torch.no_grad()
def answer_all(model: HyperVL, chat: Chat, branch: str, jobs: list[tuple[Any, float, int]], text: int = 0,
               batch_tokens: int = 8192) -> list[tuple[float, bool]]:
    """Jobs (sample, scale, group key ignored) -> (mean answer loss, first answer exact), batched by padded size.

    text: 0 asks the first question only, otherwise as many turns as fit into that many tokens.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    sizes = []
    for i, (sample, scale, _) in enumerate(jobs):
        size = preprocess.scaled_size(*sample.image.size, scale)
        sizes.append(size)
        groups[preprocess.padded(size[0]), preprocess.padded(size[1])].append(i)
    out: list[tuple[float, bool]] = [(math.inf, False)] * len(jobs)
    for (w, h), members in groups.items():
        most = max(1, batch_tokens // (w * h // 256 + 40))
        for at in range(0, len(members), most):
            part = members[at:at + most]
            turns = [chat.turns(jobs[i][0].questions[: None if text else 1], text) for i in part]
            length = max(len(t.ids) for t in turns)
            ids = torch.full((len(part), length), chat.pad)
            mask = torch.zeros((len(part), length), dtype=torch.bool)
            for row, t in enumerate(turns):
                ids[row, : len(t.ids)], mask[row, : len(t.ids)] = torch.tensor(t.ids), torch.tensor(t.answer)
            pixels = np.stack([preprocess.pixel_values(jobs[i][0].image, sizes[i]) for i in part])
            batch = {"pixels": torch.from_numpy(pixels), "ids": ids, "answer": mask}
            with torch.autocast("cpu", torch.bfloat16):
                logits, wanted, _ = forward(model, chat, branch, batch)
            loss = torch.zeros_like(mask, dtype=torch.float32)
            loss[mask] = F.cross_entropy(logits, wanted, reduction="none")
            wrong = torch.zeros_like(mask)
            wrong[mask] = logits.argmax(-1) != wanted
            for row, i in enumerate(part):
                first = wrong[row, : turns[row].first_end].any()
                out[i] = (float(loss[row].sum() / mask[row].sum()), not bool(first))
    return out


def automatic(vrc: Vrc, images: Iterable[Image.Image]) -> list[float]:
    """The VRC's scale of every picture."""
    images = list(images)
    scales: list[float] = []
    for at in range(0, len(images), 64):
        part = images[at:at + 64]
        pixels = torch.from_numpy(np.stack([thumbnail(i, vrc.config.image_size) for i in part]))
        with torch.no_grad():
            y = vrc(pixels, torch.tensor([i.size for i in part], dtype=torch.float32))
        scales += [vrc.config.grid[int(k)] for k in vrc.index(y)]
    return scales


def oracle(sample: Any) -> float:
    """The scale that undoes the zoom, rounded up to the grid."""
    return min(1.0, math.ceil(20 / sample.zoom - 1e-6) / 20)


def scales_for(name: str, samples: list[Any], folder: Path) -> list[float]:
    """"oracle", "auto" or a number -> a scale for every sample."""
    if name == "oracle":
        return [oracle(s) for s in samples]
    if name == "auto":
        vrc = load_vrc(folder / "vrc.pt")
        assert vrc is not None
        return automatic(vrc, (s.image for s in samples))
    return [float(name)] * len(samples)


def table(samples: list[Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Per cent exact by family, kind and in all."""
    hits: dict[str, list[float]] = defaultdict(list)
    for s, (_, right) in zip(samples, results, strict=True):
        for key in (s.family, s.questions[0].kind, "all"):
            hits[key].append(100.0 * right)
    return {k: round(sum(v) / len(v), 1) for k, v in sorted(hits.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=os.environ.get("HVL_TRAIN_DIR", "train-out"))
    parser.add_argument("--state", default="state.pt")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", default="oracle")
    parser.add_argument("--blank", action="store_true")
    parser.add_argument("--quantized", action="store_true")
    parser.add_argument("--branch", choices=["base", "large"])
    args = parser.parse_args()
    folder, chat = Path(args.dir), Chat()
    model = load_model(folder / args.state, args.quantized)
    samples = [render.sample(args.seed * 1000003 + i, "heldout") for i in range(args.count)]
    scales = scales_for(args.scale, samples, folder)
    if args.blank:
        for s in samples:
            s.image = Image.new("RGB", s.image.size, (240, 240, 240))
    tokens = [preprocess.visual_tokens(*preprocess.scaled_size(*s.image.size, k))
              for s, k in zip(samples, scales, strict=True)]
    full = [preprocess.visual_tokens(*s.image.size) for s in samples]
    print(f"scale {args.scale}: mean {np.mean(scales):.3f} s.d. {np.std(scales):.3f}, "
          f"visual tokens {np.mean(tokens):.1f} of {np.mean(full):.1f} "
          f"({100 - 100 * np.sum(tokens) / np.sum(full):.1f} % saved)")
    for branch in [args.branch] if args.branch else list(model.config.vision):
        jobs = [(s, k, 0) for s, k in zip(samples, scales, strict=True)]
        print(branch, json.dumps(table(samples, answer_all(model, chat, branch, jobs))), flush=True)


if __name__ == "__main__":
    main()

"""Train the demo model: `python -m tools.train.train --stage align --hours 1 --resume`.

Stages are plain data (STAGES). State, log and curve go to --dir (or HVL_TRAIN_DIR), which is written atomically every
few minutes and from which --resume goes on exactly: batches are a function of the step.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tools.train.data import CLASS_ID, MAX_INDEX, Batches, Chat, Mix, make_batch
from tools.train.model import HyperVL, ModelConfig
from tools.train.optim import optimizers

SMALL = {64: 0.03, 80: 0.07, 96: 0.2, 112: 0.3, 128: 0.4}
WIDE = {64: 0.03, 80: 0.07, 96: 0.18, 112: 0.28, 128: 0.34, 144: 0.04, 160: 0.03, 192: 0.03}
TALL = {48: 0.04, 64: 0.2, 80: 0.22, 96: 0.2, 112: 0.16, 128: 0.12, 144: 0.04}
EVEN = {"receipt": 0.3, "label": 0.3, "shapes": 0.18, "bars": 0.22}


@dataclass(frozen=True)
class Stage:
    """One stage of training: what it sees, how fast it learns, what it computes with."""

    mix: Mix
    lr: float = 3e-3
    final: float = 1.0  # lr at the end of the stage, relative (linear over the stage's hours)
    dense: float = 0.5  # weight of the dense losses
    quantized: float = 2.0  # share of the stage after which the packed weights are simulated


STAGES = {
    "align": Stage(Mix(SMALL, {k: v for k, v in TALL.items() if k <= 128},
                       {"receipt": 0.2, "label": 0.5, "shapes": 0.12, "bars": 0.18},
                       ease=(0.3, 1.0), ocr=0.5), dense=1.0),
    "main": Stage(Mix(SMALL, TALL, EVEN, ease=(0.0, 0.8), magnify=(0.85, 1.25), ocr=0.5), dense=0.7),
    "mixed": Stage(Mix(WIDE, TALL, {"receipt": 0.27, "label": 0.23, "shapes": 0.32, "bars": 0.18}, ease=(0.0, 0.5),
                       magnify=(0.85, 1.25), ocr=0.25), dense=0.6),
    "hard": Stage(Mix(WIDE, TALL, EVEN, ease=(0.0, 0.0), large=0.03, ocr=0.2), dense=0.3),
    "final": Stage(Mix(WIDE, TALL, {"receipt": 0.27, "label": 0.27, "shapes": 0.3, "bars": 0.16}, ease=(0.0, 0.3),
                       magnify=(0.9, 1.2), ocr=0.2, large=0.01), final=0.02, dense=0.5, quantized=0.6),
}
EVAL = Mix(WIDE, TALL, {"receipt": 1, "label": 1, "shapes": 1, "bars": 1}, magnify=(0.95, 1.2))


class Heads(nn.Module):
    """Dense supervision, used in training only: what is centred on each patch, and where in its string."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({n: nn.Linear(c.hidden_size, len(CLASS_ID)) for n, c in config.vision.items()})
        self.index = nn.ModuleDict({n: nn.Linear(c.hidden_size, MAX_INDEX) for n, c in config.vision.items()})

    def loss(self, branch: str, features: Tensor, label: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, rows, cols, C) against targets (B, rows, cols); -> loss, share of marks recognised."""
        logits = self.classes[branch](features).float()
        found = label > 0
        weight = torch.where(found, 1.0, 0.05)
        each = F.cross_entropy(logits.flatten(0, 2), label.flatten(), reduction="none").view_as(weight)
        loss = (each * weight).sum() / weight.sum()
        where = F.cross_entropy(self.index[branch](features)[found].float(), index[found])
        right = (logits.argmax(-1) == label)[found].float().mean()
        return loss + 0.3 * where, right


def sequence(model: HyperVL, chat: Chat, tokens: list[list[Tensor]], ids: Tensor) -> tuple[Tensor, int]:
    """Embeddings (B, S, C) of prefix, visual tokens with separators, and text; and where the text starts."""
    table = model.language_model.table()
    b = ids.shape[0]

    def fixed(values: list[int]) -> Tensor:
        return F.embedding(torch.tensor(values), table).expand(b, -1, -1).to(tokens[0][0].dtype)

    parts = [fixed(chat.prefix)]
    for y, row in enumerate(tokens):
        if y:
            parts.append(fixed([chat.row_separator]))
        for x, tile in enumerate(row):
            if x:
                parts.append(fixed([chat.tile_separator]))
            parts.append(tile)
    start = sum(p.shape[1] for p in parts)
    parts.append(F.embedding(ids, table).to(tokens[0][0].dtype))
    return torch.cat(parts, 1), start


def forward(model: HyperVL, chat: Chat, branch: str,
            batch: dict[str, Any]) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
    """Logits at the answers' tokens (n, vocab), those tokens (n), and the patch features by tile."""
    features, tokens = model.encode(branch, batch["pixels"])
    embeds, start = sequence(model, chat, tokens, batch["ids"])
    hidden = model.language_model(embeds)[:, start - 1:-1]
    mask = batch["answer"]
    logits = F.linear(hidden[mask], model.language_model.table().to(hidden.dtype)).float()
    return logits, batch["ids"][mask], features


def join(features: list[list[Tensor]]) -> Tensor:
    """Tiles' patch features as one (B, rows, cols, C)."""
    return torch.cat([torch.cat(row, 2) for row in features], 1)


@torch.no_grad()
def evaluate(model: HyperVL, chat: Chat, batches: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Exact answers by branch, family and kind; teacher forced, which is right where greedy decoding is."""
    hits: dict[str, list[float]] = {}
    model.eval()
    for batch in batches:
        for branch in model.config.vision:
            with torch.autocast("cpu", torch.bfloat16):
                logits, wanted, _ = forward(model, chat, branch, batch)
            wrong = torch.zeros_like(batch["answer"])
            wrong[batch["answer"]] = logits.argmax(-1) != wanted
            share = (wrong.sum(1) / batch["answer"].sum(1)).tolist()
            for (family, kind), bad, each in zip(batch["meta"], wrong.any(1).tolist(), share, strict=True):
                if kind == "read":
                    hits.setdefault(f"{branch}/chars", []).append(100.0 * (1 - each))
                for key in (f"{branch}/{family}", f"{branch}/{kind}", f"{branch}/all"):
                    hits.setdefault(key, []).append(0.0 if bad else 100.0)
    model.train()
    return hits


def state_of(model: HyperVL, heads: Heads, optims: list[torch.optim.Optimizer], step: int,
             stage: str) -> dict[str, Any]:
    """Everything --resume needs."""
    return {"model": model.state_dict(), "heads": heads.state_dict(), "optims": [o.state_dict() for o in optims],
            "rng": torch.get_rng_state(), "step": step, "stage": stage}


def merged(hits: dict[str, list[float]], ranks: int) -> dict[str, float]:
    """Means over what all ranks found."""
    parts: list[Any] = [hits]
    if ranks > 1:
        parts = [None] * ranks
        dist.all_gather_object(parts, hits)
    together: dict[str, list[float]] = {}
    for part in parts:
        for key, values in part.items():
            together.setdefault(key, []).extend(values)
    return {k: sum(v) / len(v) for k, v in sorted(together.items())}


def agreed(values: tuple[float, ...], ranks: int) -> list[float]:
    """Rank 0's view of the clock, for all."""
    control = torch.tensor(values, dtype=torch.float64)
    if ranks > 1:
        dist.broadcast(control, 0)
    return control.tolist()


def average_gradients(params: list[nn.Parameter], ranks: int) -> None:
    """One all-reduce over all gradients."""
    grads = [p.grad for p in params if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= ranks
    for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write atomically."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


class Log:
    """log.csv (a row an evaluation) and lines on stdout."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "curve.csv"

    def row(self, values: dict[str, Any]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(values))
            if new:
                writer.writeheader()
            writer.writerow(values)


def train(args: argparse.Namespace) -> None:
    """Run one stage until its time is over."""
    stage, folder = STAGES[args.stage], Path(args.dir)
    folder.mkdir(parents=True, exist_ok=True)
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if ranks > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    config, chat, log = ModelConfig(), Chat(), Log(folder)
    model, heads = HyperVL(config), Heads(config)
    optims = optimizers(model, heads, stage.lr)
    step, path = 0, folder / "state.pt"
    if args.resume and path.exists():
        state = torch.load(path, weights_only=False)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        for o, s in zip(optims, state["optims"], strict=True):
            o.load_state_dict(s)
        torch.set_rng_state(state["rng"])
        step = state["step"]
    checks = [make_batch(chat, EVAL, 99, i, "heldout", single=True) for i in range(rank, args.eval_batches, ranks)]
    stream = Batches(replace(stage.mix, tokens=stage.mix.tokens // ranks), args.seed + 1000 * rank, step)
    loader = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=3))
    params = [*model.parameters(), *heads.parameters()]
    branches, began, first = list(config.vision), time.time(), step
    saved = checked = began
    means: dict[str, float] = {}
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    while True:
        now = time.time()
        due = (now - checked > args.eval_minutes * 60 or step - first == 100, now - saved > args.save_minutes * 60)
        gone, check, keep = agreed(((now - began) / 3600 / args.hours + len(stop), *map(float, due)), ranks)
        if check:
            scores = merged(evaluate(model, chat, checks), ranks)
            checked = time.time()
            rounded = {k: round(v, 3) for k, v in [*sorted(means.items()), *scores.items()]}
            if rank == 0:
                log.row({"time": time.strftime("%H:%M:%S"), "stage": args.stage, "step": step, **rounded})
                print("  held out: " + json.dumps({k: round(v, 1) for k, v in scores.items()}), flush=True)
        if keep or gone >= 1:
            saved = now
            if rank == 0:
                save(path, state_of(model, heads, optims, step, args.stage))
        if gone >= 1:
            break
        model.set_quantized(gone >= stage.quantized)
        factor = (1 + (stage.final - 1) * gone) * min(1.0, (step + 1) / 60)
        for o in optims:
            for g in o.param_groups:
                g["lr"] = stage.lr * factor * args.lr
        batch, branch = next(loader), branches[step % len(branches)]
        with torch.autocast("cpu", torch.bfloat16):
            logits, wanted, features = forward(model, chat, branch, batch)
            dense, found = heads.loss(branch, join(features), batch["label"], batch["index"])
        weight = batch["weight"][batch["answer"]]
        answer = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
        for o in optims:
            o.zero_grad(set_to_none=True)
        (answer + stage.dense * dense).backward()
        if ranks > 1:
            average_gradients(params, ranks)
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
        for o in optims:
            o.step()
        step += 1
        for key, value in ((f"{branch}/loss", answer.item()), (f"{branch}/dense", dense.item()),
                           (f"{branch}/found", found.item())):
            means[key] = means.get(key, value) * 0.95 + value * 0.05
        if step % 20 == 0 and rank == 0:
            pace = (time.time() - began) / (step - first)
            print(f"{time.strftime('%H:%M:%S')} {args.stage} step {step} {pace:.2f} s/step "
                  + " ".join(f"{k} {v:.3f}" for k, v in means.items()), flush=True)
    print("done", args.stage, step, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--dir", default=os.environ.get("HVL_TRAIN_DIR", "train-out"))
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1.0, help="factor on the stage's learning rate")
    parser.add_argument("--eval-batches", type=int, default=6)
    parser.add_argument("--eval-minutes", type=float, default=5.0)
    parser.add_argument("--save-minutes", type=float, default=3.0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()

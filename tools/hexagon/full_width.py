"""Full-width layers with random weights on "hexagon-sim", beside "hexagon-ref": the numbers must be the same.

    python -m tools.hexagon.full_width [--out docs/hexagon_full_width.md]

One layer of each stack of the published 1.8B shape, planned for `SPEC`, one thread: a ViT-Large block on one tile of 256 patches with its
projector, a Qwen3-1.7B layer on a prompt of `TOKENS` tokens and on one more, and its head over the whole vocabulary. Reports packets by op,
fast memory that was really written and bytes moved. Exit code 1 where a number differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypervl_engine import _core
from hypervl_engine.engine import Engine, load
from numpy.typing import NDArray

from tools.experiments.checkpoints import full_checkpoint

SPEC = "hexagon-v73"
TOKENS, CONTEXT = 128, 192


class Run(NamedTuple):
    what: str
    run: Callable[[_core.Session], list[NDArray[np.float32]]]


def _tile(session: _core.Session) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    noisy = rng.integers(0, 256, (32, 32, 3)).repeat(8, 0).repeat(8, 1) + rng.integers(-20, 21, (256, 256, 3))
    return [session.encode(np.clip(noisy, 0, 255).astype(np.uint8), 1.0, "large")]


def _prompt(session: _core.Session) -> list[NDArray[np.float32]]:
    session.prefill(np.random.default_rng(0).integers(0, 100_000, TOKENS).astype(np.int32))
    return [session.last_logits().copy()]


def _token(session: _core.Session) -> list[NDArray[np.float32]]:
    session.decode(17)
    return [session.last_logits().copy()]


RUNS = (
    Run("a tile of 256 patches: one ViT-Large block, projector", _tile),
    Run(f"a prompt of {TOKENS} tokens: one Qwen3-1.7B layer, head of one position", _prompt),
    Run("one token behind it", _token),
)


def measure(emulated: Engine, reference: Engine) -> tuple[list[str], bool]:
    """Markdown, and whether every number was the same."""
    sessions = [engine.new_session() for engine in (emulated, reference)]
    lines: list[str] = []
    all_same = True
    for what, run in RUNS:
        sessions[0].reset_stats()
        ours, expected = (run(session) for session in sessions)
        same = all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))
        all_same &= same
        stats: dict[str, Any] = sessions[0].stats()
        moved = (stats["transferred_in_bytes"] + stats["transferred_out_bytes"]) / 2**20
        lines += ["", f"## {what[0].upper()}{what[1:]}", ""]
        lines += [f"{'Equal' if same else 'NOT EQUAL'} to `hexagon-ref`, bit for bit; {moved:.1f} MiB moved.", ""]
        lines += ["| Program | op | steps | packets | of them HVX instructions a packet |", "| --- | --- | ---: | ---: | ---: |"]
        for name, counts in sessions[0].remote_counts().items():
            for op in counts["ops"]:
                rate = op["hvx_instructions"] / max(op["packets"], 1)
                lines.append(f"| {name} | {op['kind']} {op['name']} | {op['steps']} | {op['packets']:,} | {rate:.2f} |")
            between = counts["packets"] - sum(op["packets"] for op in counts["ops"])
            lines.append(f"| {name} | between kernels: plan, transfers | | {between:,} | |")
    peak = sessions[0].stats()["fast_peak_bytes"]
    return [f"Fast memory written at most: {peak / 2**20:.2f} MiB of {emulated.budget / 2**20:.2f}.", *lines], all_same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/experiments"), help="for the checkpoint (default build/experiments)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the result to as well")
    options = parser.parse_args()
    path = full_checkpoint(options.folder, layers=1)
    emulated, reference = (
        load(path, context_length=CONTEXT, progress=False, **settings)
        for settings in ({"device": "hexagon-sim", "spec": SPEC, "threads": 1}, {"device": "hexagon-ref"})
    )
    lines, same = measure(emulated, reference)
    text = "\n".join([f"Plans for `{SPEC}`, one thread. {lines[0]}", *lines[1:]])
    if options.out:
        head = "# Full-width layers on the emulated DSP program\n\nMade by `python -m tools.hexagon.full_width`. "
        options.out.write_text(f"{head}Emulated: packets are not cycles.\n\n{text}\n")
    print(text)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

"""One full-size run beside transformers: logits of 256 teacher-forced positions, float32 on the dequantised weights.

    hypervl-engine convert --random hypervl-1.8b FOLDER
    python tools/compare_transformers.py FOLDER

Needs torch, transformers and, for the 1.8B shape, about 9 GB of memory. Exit code 1 when a position's relative L2 error passes
--tolerance, or when the best token differs where the reference's lead is clear of four times the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from hypervl_engine.engine import load

from tools.reference import qwen3, relative_l2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--positions", type=int, default=256)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    engine = load(options.checkpoint, context_length=options.positions)
    ids = np.random.default_rng(options.seed).integers(0, engine.tokenizer.vocab_size - 300, options.positions).astype(np.int32)
    ours = engine.new_session().prefill(ids, logits=True)
    assert ours is not None
    with torch.no_grad():
        theirs = qwen3(options.checkpoint)(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()

    error = relative_l2(ours, theirs)
    top = np.sort(theirs, axis=-1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 4 * options.tolerance * np.abs(theirs).max(axis=-1)
    agree = (ours.argmax(-1) == theirs.argmax(-1))[clear]
    print(f"relative L2 by position: median {np.median(error):.2e}, 99 % {np.quantile(error, 0.99):.2e}, largest {error.max():.2e}")
    print(f"best token equal in {agree.sum()} of {clear.sum()} positions with a clear lead ({options.positions} in all)")
    return 0 if error.max() <= options.tolerance and agree.all() else 1


if __name__ == "__main__":
    sys.exit(main())

"""Writes the messages that a session on device "hexagon-sim" sends: a picture of the demo model in both branches, a prefill and a decode.

    python -m tools.hexagon.record_session STREAM
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypervl_engine.engine import load

from tools.hexagon.client import ROOT

IDS = np.arange(40, dtype=np.int32) % 90 + 10


def recorder(folder: Path, hexagon: Path, stream: Path) -> None:
    """Lays in `folder` what HVL_HEXAGON may name instead of `hexagon`, so that messages are written to `stream` too."""
    for name in ("bin", "v68"):
        (folder / name).mkdir()
    (folder / "v68" / "dsp").symlink_to(hexagon / "v68" / "dsp")
    script = folder / "bin" / "qemu-hexagon"
    script.write_text(f'#!/bin/sh\ntee "{stream}" | "{hexagon}/bin/qemu-hexagon" "$1"\n')
    script.chmod(0o755)


def main() -> int:
    hexagon = Path(os.environ.get("HVL_HEXAGON") or ROOT / "build" / "hexagon").resolve()
    stream = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        recorder(Path(folder), hexagon, stream)
        os.environ["HVL_HEXAGON"] = folder
        engine = load(device="hexagon-sim", threads=1, context_length=512, spec="hexagon-v73", vtcm="300KiB", progress=False)
        session = engine.new_session()
        picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        session.vrc_scale(picture)
        for branch in engine.branches:
            session.encode(picture, 1.0, branch)
        session.prefill(IDS)
        session.decode(7)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the messages that a session on device "hexagon-sim" sends: a picture of the demo model in both branches, a prefill and a decode.

    python -m tools.hexagon.record_session STREAM [SEEDS]

SEEDS: a folder for what tools/hexagon/fuzz_service.cc begins with: a file for each message, without weights.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypervl_engine.engine import load

from tools.hexagon.client import ROOT
from tools.hexagon.dsp import PUT, messages

IDS = np.arange(40, dtype=np.int32) % 90 + 10


def recorder(folder: Path, hexagon: Path, stream: Path) -> None:
    """Lays in `folder` what HVL_HEXAGON may name instead of `hexagon`, so that messages are written to `stream` too."""
    for name in ("bin", "v68"):
        (folder / name).mkdir()
    (folder / "v68" / "dsp").symlink_to(hexagon / "v68" / "dsp")
    script = folder / "bin" / "qemu-hexagon"
    script.write_text(f'#!/bin/sh\ntee "{stream}" | "{hexagon}/bin/qemu-hexagon" "$1"\n')
    script.chmod(0o755)


def write_seeds(stream: Path, folder: Path) -> None:
    """As inputs of the fuzzer: the kind in a byte, and the message without magic, kind and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(messages(stream.read_bytes())):
        if message[4] != PUT:
            (folder / f"seed-{number:03}").write_bytes(message[4:5] + message[8:-8])


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
    if len(sys.argv) > 2:
        write_seeds(stream, Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The names of what `load(device=...)` takes."""

from __future__ import annotations

import os
from pathlib import Path

INTEGER_DEVICE = "hexagon-ref"
"""The NPU's integer arithmetic (docs/integer_arithmetic.md) in plain C++ on this machine."""

EMULATED_DEVICE = "hexagon-sim"
"""The same results from the DSP program (hexagon/dsp), emulated in a process of its own (docs/hexagon.md)."""

INTEGER_DEVICES = (INTEGER_DEVICE, EMULATED_DEVICE)
DEVICES = ("cpu", "cpu-staged", *INTEGER_DEVICES)


def emulator_command() -> list[str]:
    """What starts the DSP program: from the folder HVL_HEXAGON, else build/hexagon here, as hexagon/setup.sh lays it. FileNotFoundError."""
    folder = Path(os.environ.get("HVL_HEXAGON") or "build/hexagon").resolve()
    command = [folder / "bin" / "qemu-hexagon", folder / "v68" / "dsp"]
    for path in command:
        if not path.exists():
            raise FileNotFoundError(
                f"no {path}: device {EMULATED_DEVICE} needs what `hexagon/setup.sh build` makes in build/hexagon of a checkout; "
                "HVL_HEXAGON names another folder"
            )
    return [str(path) for path in command]

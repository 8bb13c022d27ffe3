"""The names of what `load(device=...)` takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

INTEGER_DEVICE = "hexagon-ref"
"""The NPU's integer arithmetic (docs/integer_arithmetic.md) in plain C++ on this machine."""

EMULATED_DEVICE = "hexagon-sim"
"""The same results from the DSP program (hexagon/dsp), emulated in a process of its own (docs/hexagon.md)."""

NPU_DEVICE = "hexagon"
"""The same from the DSP program on a Snapdragon's NPU, through the vendor's FastRPC library (docs/hexagon.md). Never run on one yet."""

REMOTE_DEVICES = (EMULATED_DEVICE, NPU_DEVICE)
INTEGER_DEVICES = (INTEGER_DEVICE, *REMOTE_DEVICES)
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


def remote_options(device: str) -> dict[str, Any]:
    """What `_core.Model` is told of where programs run: nothing for devices that are this process. FileNotFoundError, ValueError.

    "hexagon": HVL_CDSPRPC names another library than libcdsprpc.so, HVL_HEXAGON_ARCH the DSP's architecture, if it does not say.
    """
    if device == EMULATED_DEVICE:
        return {"remote_command": emulator_command()}
    if device != NPU_DEVICE:
        return {}
    arch = os.environ.get("HVL_HEXAGON_ARCH") or "0"
    if not arch.isdigit():
        raise ValueError(f"HVL_HEXAGON_ARCH is {arch!r}: expected a number, such as 75 for v75")
    return {"remote_library": os.environ.get("HVL_CDSPRPC") or "libcdsprpc.so", "remote_arch": int(arch)}

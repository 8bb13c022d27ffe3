"""HyperVL on CPUs: images in, answers out.

>>> import hypervl_engine
>>> engine = hypervl_engine.load()  # the demo model that ships with the package
>>> print(engine.generate("receipt.png", "what is the total?"))
"""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from ._core import cpu_info
from .chat import Chat
from .engine import Engine, load
from .errors import CancelledError, CheckpointError, DeviceError, HyperVLError
from .generation import GenerationConfig, Result, Score, Stats
from .images import load_image
from .machine import usable_cores
from .stream import Stream

__all__ = [
    "CancelledError",
    "Chat",
    "CheckpointError",
    "DeviceError",
    "Engine",
    "GenerationConfig",
    "HyperVLError",
    "Result",
    "Score",
    "Stats",
    "Stream",
    "info",
    "load",
    "load_image",
]


def info() -> dict[str, Any]:
    """CPU features, the instruction set and the kernel variants in use, cores, and versions (plain data, for JSON)."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pillow", "tokenizers", "jinja2")}
    try:
        versions["hypervl-engine"] = importlib.metadata.version("hypervl-engine")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        versions["hypervl-engine"] = "not installed"
    return {**cpu_info(), "usable_cores": usable_cores(), "python": platform.python_version(), "versions": versions}

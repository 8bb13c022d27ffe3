"""Machines by name: the presets that ship with the package, and the CPU this runs on."""

from __future__ import annotations

import os
from pathlib import Path

from ..machine import usable_cores
from .cpu import cpu_spec
from .spec import HardwareSpec

_FOLDER = Path(__file__).parent / "presets"
PRESETS: tuple[str, ...] = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
TARGETS: tuple[str, ...] = ("cpu", "cpu-staged", *PRESETS)


def preset(name: str) -> HardwareSpec:
    """One of `PRESETS`. None of their figures was measured on a device by us: each says where it comes from."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: expected one of {', '.join(PRESETS)}")
    return HardwareSpec.load(_FOLDER / f"{name}.json")


def load_spec(
    source: str | os.PathLike[str] | HardwareSpec,
    *,
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> HardwareSpec:
    """A spec as it is, one of `TARGETS` by name, or a JSON file by its path.

    threads, cache_dir: for "cpu" and "cpu-staged" (see `cpu_spec`); default the physical cores this process may use.
    Raises ValueError for a name that is neither a target nor a file, and for a file that is not a spec.
    """
    if isinstance(source, HardwareSpec):
        return source
    text = os.fspath(source)
    if text in ("cpu", "cpu-staged"):
        return cpu_spec(threads or usable_cores(), staged=text == "cpu-staged", cache_dir=cache_dir)
    if text in PRESETS:
        return preset(text)
    if not Path(text).is_file():
        raise ValueError(f"target is {text!r}: expected one of {', '.join(TARGETS)}, or the path of a JSON file")
    return HardwareSpec.load(text)

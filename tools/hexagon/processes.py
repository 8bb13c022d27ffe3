"""Processes of this machine, by what they were started with (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def running(argument: str, parent: int | None = None) -> list[int]:
    """Ids of processes with an argument that contains `argument`, in order, of `parent` only if it is given.
    None that ended and nobody waited for yet."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        if any(os.fsencode(argument) in one for one in arguments) and parent in (None, int(state[1])):
            found.append(int(folder.name))
    return sorted(found)

"""The emulated test server. HVL_HEXAGON: the folder of hexagon/setup.sh, in which it must be; else build/hexagon, if it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.hexagon.client import ROOT, TestServer


@pytest.fixture(scope="session")
def hexagon_folder() -> Path:
    """Skips where nothing is built; fails if HVL_HEXAGON said that it is."""
    named = os.environ.get("HVL_HEXAGON", "")
    folder = Path(named) if named else ROOT / "build" / "hexagon"
    missing = [name for name in ("bin/qemu-hexagon", "v68/test_server", "v68/dsp", "v68/dsp_rpc") if not (folder / name).exists()]
    if missing and named:
        pytest.fail(f"HVL_HEXAGON is {folder}, but there is no {' and no '.join(missing)}")
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} in {folder}: `make hexagon` builds and runs this")
    return folder


@pytest.fixture(scope="session")
def server(hexagon_folder: Path) -> Iterator[TestServer]:
    with TestServer(hexagon_folder) as running:
        yield running
